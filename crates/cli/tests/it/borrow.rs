//! The program in a branch host that borrows a way to a source: its socket leads to what the lender connects, and ends with
//! him.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fixtures::TestEnv;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, join};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::pump::{Inbound, Session, greet, relay};
use wire::{Endpoint, OpenRequest, Opened, Role, SessionKey};

use crate::harness::{LONG, environment};

/// Both halves of the wire's credential, as they are said.
const ID: &str = "0102030405060708090a0b0c0d0e0f10";
const KEY: [u8; 32] = [7; 32];

/// The name that the lender alone knows.
const HOST: &str = "db.only-there.invalid";

/// The program, and what it was told.
struct Borrowing {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    answer: Value,
    _env: TestEnv,
}

/// Asks it for a way to `host`.
async fn borrow(host: &str, port: u16, tries_itself: bool) -> Borrowing {
    let env = environment();
    let sockets = env.data_directory().join("run");
    std::fs::create_dir_all(&sockets).unwrap();
    let mut command = Command::from(env.command(["engine", "borrow"]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.kill_on_drop(true).spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let wish =
        json!({"host": host, "port": port, "tries_itself": tries_itself, "id": ID, "key": key});
    stdin
        .write_all(format!("{wish}\n").as_bytes())
        .await
        .unwrap();
    let mut line = String::new();
    let read = timeout(LONG, stdout.read_line(&mut line)).await;
    read.expect("it answers").unwrap();
    Borrowing {
        process,
        stdin,
        stdout,
        answer: serde_json::from_str(&line).unwrap(),
        _env: env,
    }
}

/// Lends what leads to a port of this machine, whatever host is asked for.
fn lend(stdin: ChildStdin, stdout: BufReader<ChildStdout>, port: u16) -> JoinHandle<()> {
    tokio::spawn(async move {
        let link = join(stdout, stdin);
        let guest = greet(link, |_| Some(SessionKey::new(KEY))).await.unwrap();
        let (session, mut inbox) = Session::new(Role::Agent, LONG);
        let connecting = async {
            while let Some(Inbound::Stream(offer)) = inbox.next().await {
                let host = HOST.to_owned();
                let destination = Endpoint::Name { host, port };
                assert_eq!(*offer.request(), OpenRequest::Tcp { destination });
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let stream = offer.accept(Opened::default());
                tokio::spawn(async move { relay(&stream, &mut server).await.ok() });
            }
        };
        tokio::join!(guest.carry(&session), connecting);
    })
}

/// What an engine's gateway asks a proxy for.
async fn dial(socket: &Path, port: u16) -> UnixStream {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let name = u8::try_from(HOST.len()).unwrap();
    let request = [
        &[5, 1, 0, 5, 1, 0, 3, name],
        HOST.as_bytes(),
        &port.to_be_bytes(),
    ]
    .concat();
    stream.write_all(&request).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 0], "it is connected");
    stream
}

#[tokio::test]
async fn the_socket_leads_to_what_the_lender_connects_and_goes_with_him() {
    let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let Borrowing {
        mut process,
        stdin,
        stdout,
        answer,
        _env,
    } = borrow(HOST, port, true).await;
    let socket: PathBuf = serde_json::from_value(answer["waits"].clone()).unwrap();
    let folder = socket.parent().unwrap().to_owned();
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "nobody else gets in");
    let lender = lend(stdin, stdout, port);

    let mut client = timeout(LONG, dial(&socket, port)).await.unwrap();
    let (mut source, _) = server.accept().await.unwrap();
    client.write_all(b"question").await.unwrap();
    let mut heard = [0; 8];
    source.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"question");
    source.write_all(b"answer").await.unwrap();
    let mut heard = [0; 6];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"answer");

    // As it goes with a lender that is killed.
    lender.abort();
    let ended = timeout(LONG, process.wait())
        .await
        .expect("it ends by itself");
    assert!(ended.unwrap().success());
    assert!(!folder.exists());
    let left = timeout(LONG, client.read(&mut heard))
        .await
        .expect("it is cut");
    assert!(!left.is_ok_and(|count| count > 0));
}

#[tokio::test]
async fn what_the_host_reaches_by_itself_needs_no_loan() {
    let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let mut asked = borrow("127.0.0.1", port, true).await;
    assert_eq!(asked.answer, "reached");
    let ended = timeout(LONG, asked.process.wait()).await.expect("it ends");
    assert!(ended.unwrap().success());
    // Unless it is told not to try: its own loopback is nobody's source.
    let asked = borrow("127.0.0.1", port, false).await;
    assert!(asked.answer["waits"].is_string(), "{}", asked.answer);
}
