//! Ways into a cluster that a kubeconfig describes: a plugin that has the token, a proxy before the API server. The cluster
//! is a listener of the test that notes what it is asked and refuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::mpsc;

use fixtures::TestEnv;

use crate::harness::{LONG, environment, run};

/// Somebody with a kubeconfig of one context, made of its cluster's and its user's fields.
fn with_kubeconfig(cluster: &str, user: &str) -> TestEnv {
    let env = environment();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: shop\n\
         contexts: [{{name: shop, context: {{cluster: shop, user: me, namespace: metalmart}}}}]\n\
         clusters: [{{name: shop, cluster: {{{cluster}}}}}]\nusers: [{{name: me, user: {{{user}}}}}]\n"
    );
    let folder = env.home().join(".kube");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config"), text).unwrap();
    env
}

/// A program of the shell in the user's home.
fn script(env: &TestEnv, text: &str) -> PathBuf {
    let path = env.home().join("plugin");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Answers every connection by `answer`, which gives what came; what came is told in order.
fn listen(answer: fn(&mut TcpStream) -> std::io::Result<String>) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let mut connection = connection;
            if let Ok(came) = answer(&mut connection)
                && told.send(came).is_err()
            {
                return;
            }
        }
    });
    (port, heard)
}

/// The head of a request over HTTP/1.1.
fn read_head(connection: &mut TcpStream) -> std::io::Result<String> {
    let (mut reader, mut head) = (BufReader::new(connection), String::new());
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            break;
        }
    }
    Ok(head)
}

/// Refuses as an API server does whose users may not do this.
fn refuse_by_rights(connection: &mut TcpStream) -> std::io::Result<String> {
    let head = read_head(connection)?;
    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"not yours","reason":"Forbidden","code":403}"#;
    let length = status.len();
    write!(
        connection,
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{status}"
    )?;
    Ok(head)
}

/// Refuses as a proxy does that leads nowhere.
fn refuse_to_lead(connection: &mut TcpStream) -> std::io::Result<String> {
    let head = read_head(connection)?;
    connection.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")?;
    Ok(head)
}

/// What a client of SOCKS 5 asks for: where it wants to go, and that nobody tells it more.
fn hear_socks(connection: &mut TcpStream) -> std::io::Result<String> {
    let mut greeting = [0; 2];
    connection.read_exact(&mut greeting)?;
    let mut methods = vec![0; greeting[1].into()];
    connection.read_exact(&mut methods)?;
    connection.write_all(&[5, 0])?;
    // Version, CONNECT, reserved, a name, its length.
    let mut request = [0; 5];
    connection.read_exact(&mut request)?;
    let mut rest = vec![0; usize::from(request[4]) + 2];
    connection.read_exact(&mut rest)?;
    let (name, port) = rest.split_at(rest.len() - 2);
    let port = u16::from_be_bytes([port[0], port[1]]);
    // Host unreachable.
    connection.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(format!(
        "{:?} {}:{port}",
        &request[..4],
        String::from_utf8_lossy(name)
    ))
}

/// What somebody is told whom the cluster lists nothing.
fn list(env: &TestEnv) -> String {
    let outcome = run(env, "ls -t pod");
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.stderr);
    outcome.stderr
}

#[test]
fn the_token_is_the_one_that_the_users_plugin_gives() {
    let (port, heard) = listen(refuse_by_rights);
    let credential = r#"{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": "fresh-from-the-plugin"}}"#;
    let env = environment();
    let plugin = script(
        &env,
        &format!("echo \"$1 $SHOP\" >>\"$HOME/asked\"\necho '{credential}'"),
    );
    let cluster = format!("server: 'http://127.0.0.1:{port}'");
    let user = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: {}, args: [login], \
         env: [{{name: SHOP, value: metalmart}}], interactiveMode: Never}}",
        plugin.display()
    );
    let user_of_it = with_kubeconfig(&cluster, &user);
    let told = list(&user_of_it);
    let head = heard.recv_timeout(LONG).unwrap();
    assert!(
        head.to_lowercase()
            .contains("authorization: bearer fresh-from-the-plugin\r\n"),
        "{head}"
    );
    let asked = std::fs::read_to_string(user_of_it.home().join("asked")).unwrap();
    assert!(asked.starts_with("login metalmart\n"), "{asked}");
    assert!(told.contains("list pods"), "{told}");
    assert!(!told.contains("fresh-from-the-plugin"), "{told}");
}

#[test]
fn a_plugin_that_fails_is_told_without_what_it_printed() {
    let (port, heard) = listen(refuse_by_rights);
    let cluster = format!("server: 'http://127.0.0.1:{port}'");
    let env = environment();
    let with = |command: &str| {
        let user = format!(
            "exec: {{apiVersion: client.authentication.k8s.io/v1, command: {command}, \
             env: [{{name: KEY, value: hunter2}}], interactiveMode: Never}}"
        );
        list(&with_kubeconfig(&cluster, &user))
    };
    let fails = "echo half-a-token; echo 'log in first: shopctl login' >&2; exit 7";
    let told = with(&script(&env, fails).display().to_string());
    assert!(
        told.contains("failed with exit status: 7: log in first: shopctl login\n"),
        "{told}"
    );
    let secrets = ["half-a-token", "hunter2"];
    assert!(secrets.iter().all(|it| !told.contains(it)), "{told}");
    let told = with(&script(&env, "echo 'half-a-token: ['").display().to_string());
    assert!(told.contains("did not print an ExecCredential"), "{told}");
    assert!(secrets.iter().all(|it| !told.contains(it)), "{told}");
    let told = with("/nonexistent/plugin");
    assert!(told.contains("No such file"), "{told}");
    assert!(heard.try_recv().is_err(), "nobody is asked without a token");
}

#[test]
fn the_api_server_is_reached_by_the_proxy_that_its_cluster_names() {
    let (port, heard) = listen(refuse_to_lead);
    let server = "server: 'https://api.shop.example:6443'";
    let cluster = format!("{server}, proxy-url: 'http://127.0.0.1:{port}'");
    let told = list(&with_kubeconfig(&cluster, "token: hunter2"));
    assert!(
        told.contains("unsuccessful") || told.contains("proxy"),
        "{told}"
    );
    let head = heard.recv_timeout(LONG).unwrap();
    assert!(
        head.starts_with("CONNECT api.shop.example:6443 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(!head.contains("hunter2"), "{head}");

    let (port, heard) = listen(hear_socks);
    let cluster = format!("{server}, proxy-url: 'socks5://127.0.0.1:{port}'");
    let told = list(&with_kubeconfig(&cluster, "token: hunter2"));
    assert!(told.to_lowercase().contains("unreachable"), "{told}");
    let asked = heard.recv_timeout(LONG).unwrap();
    assert_eq!(asked, "[5, 1, 0, 3] api.shop.example:6443");
}

#[test]
fn the_proxy_of_the_environment_is_taken_where_the_cluster_names_none() {
    let (port, heard) = listen(refuse_to_lead);
    let mut env = with_kubeconfig("server: 'https://api.shop.example:6443'", "token: hunter2");
    env.set("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
    drop(list(&env));
    let head = heard.recv_timeout(LONG).unwrap();
    assert!(head.starts_with("CONNECT api.shop.example:6443 "), "{head}");
}

#[test]
fn a_way_in_that_is_not_had_is_refused_by_name() {
    let cluster = "server: 'https://api.shop.example:6443'";
    let user = "auth-provider: {name: azure, config: {access-token: hunter2}}";
    let told = list(&with_kubeconfig(cluster, user));
    assert!(
        told.contains("azure auth plugin is not supported"),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
    let cluster = format!("{cluster}, proxy-url: 'ftp://127.0.0.1:9'");
    let told = list(&with_kubeconfig(&cluster, "token: hunter2"));
    assert!(told.contains("ftp"), "{told}");
}
