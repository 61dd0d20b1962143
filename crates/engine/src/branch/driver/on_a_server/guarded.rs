//! A branch behind a guarded door, as in a branch host: who gets to its server, before and after the engine is another.

use model::door_pass;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use super::*;

async fn start_guarded(data_dir: &Path) -> App {
    let settings = Settings {
        doors: Doors::Guarded,
        ..settings(data_dir)
    };
    App::start(settings).await.unwrap()
}

/// What somebody hears who logs in as the application does and says this first.
async fn log_in(connection: &BranchConnection, pass: Option<&Secret>) -> Result<i64, String> {
    let address = (connection.host.as_str(), connection.port);
    let mut stream = TcpStream::connect(address).await.unwrap();
    if let Some(pass) = pass {
        let said = door_pass::preamble(pass).unwrap();
        stream.write_all(&said).await.unwrap();
    }
    let mut config: tokio_postgres::Config = connection.url.reveal().parse().unwrap();
    config.ssl_mode(tokio_postgres::config::SslMode::Disable);
    let begun = config.connect_raw(stream, NoTls).await;
    let (client, served) = begun.map_err(|error| chain(&error))?;
    let served = tokio::spawn(served);
    let row = client.query_one("SELECT count(*) FROM t", &[]).await;
    let count = row.unwrap().get(0);
    drop(client);
    served.await.unwrap().unwrap();
    Ok(count)
}

async fn assert_only_passes_open(app: &App, name: &BranchName, kept: Option<&Secret>) -> Secret {
    let session: SessionId = "session".to_owned().try_into().expect("an id");
    let connection = app.branches.connection(name, Some(session)).await.unwrap();
    let pass = connection.pass.clone().expect("the door is guarded");
    let refused = log_in(&connection, None).await.unwrap_err();
    assert!(refused.contains("nobody without a credential"), "{refused}");
    let wrong = Secret::new("42".repeat(54));
    for wrong in [wrong, Secret::new(pass.reveal().replace("53", "54"))] {
        let refused = log_in(&connection, Some(&wrong)).await;
        refused.unwrap_err();
    }
    for right in [Some(&pass), kept].into_iter().flatten() {
        assert_eq!(log_in(&connection, Some(right)).await, Ok(1000));
    }
    let command = app.branches.connection(name, None).await.unwrap();
    let own = command.pass.as_ref();
    assert!(own.is_some_and(|own| *own != pass));
    assert_eq!(log_in(&command, own).await, Ok(1000));
    pass
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_branch_is_reached_by_its_sessions_credential_alone_also_by_the_next_engine() {
    let source = tokio::task::spawn_blocking(source).await.unwrap();
    let root = TempDir::new().unwrap();
    let app = start_guarded(root.path()).await;
    let holder = Holder {
        id: "session".to_owned().try_into().expect("an id"),
        owner: "somebody".to_owned(),
        pid: 1,
        program: "inventory".to_owned(),
    };
    let asked = EnsureBranch {
        holder: Some(holder.clone()),
        ..request(&source, "guarded")
    };
    let name = app.branches.ensure(&asked).await.unwrap().branch.name;
    wait_for(&app, &name, BranchPhase::Ready).await;
    let given = assert_only_passes_open(&app, &name, None).await;
    let shown = serde_json::to_string(&app.branches.get(&name).unwrap()).unwrap();
    assert!(!shown.contains(given.reveal()), "a view tells no secret");
    drop(app);

    // Started by somebody who does not say that doors are guarded.
    let app = start_engine(root.path()).await;
    wait_for(&app, &name, BranchPhase::Ready).await;
    assert_only_passes_open(&app, &name, Some(&given)).await;

    // Stopped by somebody, the session still runs, and is let in no more.
    let connection = app.branches.connection(&name, None).await.unwrap();
    app.branches.stop(&holder.id, "somebody").await.unwrap();
    let refused = log_in(&connection, Some(&given)).await.unwrap_err();
    assert!(refused.contains("is over"), "{refused}");
    app.branches.delete(&name).await.unwrap();
    assert_nothing_left(root.path());
}
