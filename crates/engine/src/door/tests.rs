//! A door before a fake server on a Unix socket.

mod guarded;

use tokio::net::UnixListener;

use super::*;

const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0u\0\0";

fn open_to_all_but(refused_user: &'static str) -> Admission {
    Admission {
        refused_user,
        lock: None,
        encryption: None,
    }
}

struct Behindness {
    _directory: tempfile::TempDir,
    server: UnixListener,
    door: Door,
}

async fn door() -> Behindness {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let server = UnixListener::bind(&socket).unwrap();
    let door = Door::open(7, open_to_all_but("bough_admin")).await.unwrap();
    door.lead_to(Behind::Open(socket));
    Behindness {
        _directory: directory,
        server,
        door,
    }
}

fn startup_of(user: &str) -> Vec<u8> {
    let parameters = format!("user\0{user}\0\0");
    let mut packet = u32::try_from(parameters.len() + 8)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    packet.extend_from_slice(&[0, 3, 0, 0]);
    packet.extend_from_slice(parameters.as_bytes());
    packet
}

#[tokio::test]
async fn a_session_is_relayed_and_counted() {
    let behind = door().await;
    let mut client = TcpStream::connect(behind.door.address()).await.unwrap();
    client
        .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
        .await
        .unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N', "TLS is declined");
    let packet = startup_of("u");
    client.write_all(&packet).await.unwrap();
    let (mut server, _) = behind.server.accept().await.unwrap();
    let mut seen = vec![0; packet.len()];
    server.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, packet);
    server.write_all(b"R").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'R');
    assert_eq!(
        (behind.door.counts().active(), behind.door.counts().total()),
        (1, 1)
    );
    drop(server);
    assert!(client.read_u8().await.is_err());
}

#[tokio::test]
async fn the_engines_own_role_is_refused() {
    let behind = door().await;
    let mut client = TcpStream::connect(behind.door.address()).await.unwrap();
    client.write_all(&startup_of("bough_admin")).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with('E') && answer.contains("28000"),
        "{answer:?}"
    );
    assert_eq!(behind.door.counts().total(), 0);
}

#[tokio::test]
async fn a_client_waits_for_its_server_and_is_cut_when_it_goes() {
    let behind = door().await;
    let socket = behind
        .server
        .local_addr()
        .unwrap()
        .as_pathname()
        .unwrap()
        .to_owned();
    behind.door.lead_to(Behind::Closed);
    let mut client = TcpStream::connect(behind.door.address()).await.unwrap();
    client.write_all(&startup_of("u")).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(50), behind.server.accept()).await;
    assert!(waiting.is_err(), "nothing arrives while the door is closed");
    behind.door.lead_to(Behind::Open(socket));
    let (_server, _) = behind.server.accept().await.unwrap();
    behind.door.lead_to(Behind::Closed);
    assert!(client.read_u8().await.is_err());
}

#[tokio::test]
async fn a_client_that_waited_before_its_server_was_there_wakes_nobody_later() {
    let behind = door().await;
    let Behind::Open(socket) = behind.door.behind_tx.borrow().clone() else {
        panic!("it is open");
    };
    behind.door.lead_to(Behind::Closed);
    let mut client = TcpStream::connect(behind.door.address()).await.unwrap();
    client.write_all(&startup_of("u")).await.unwrap();
    behind.door.counts().knocked().await;
    // One more, of which nobody took notice.
    behind.door.counts().knocks.notify_one();
    behind.door.lead_to(Behind::Open(socket));
    let (server, _) = behind.server.accept().await.unwrap();
    assert!(!behind.door.close_if_quiet(), "a session is relayed");
    drop((server, client));
    let closed = tokio::time::timeout(Duration::from_secs(10), async {
        while !behind.door.close_if_quiet() {
            tokio::task::yield_now().await;
        }
    });
    closed.await.expect("nobody is there any more");
    assert!(behind.door.counts().knocked().now_or_never().is_none());
    // Who comes now does wake it.
    let mut client = TcpStream::connect(behind.door.address()).await.unwrap();
    client.write_all(&startup_of("u")).await.unwrap();
    let knocked = tokio::time::timeout(Duration::from_secs(10), behind.door.counts().knocked());
    knocked.await.expect("a client waits");
}

#[tokio::test]
async fn a_port_that_is_taken_is_passed_over_and_had_again_once_it_is_free() {
    let first = Door::open(3, open_to_all_but("x")).await.unwrap();
    let port = first.port();
    assert!(Door::open_at(port, open_to_all_but("x")).await.is_none());
    assert_ne!(
        Door::open(3, open_to_all_but("x")).await.unwrap().port(),
        port
    );
    drop(first);
    let freed = tokio::time::timeout(Duration::from_secs(5), async {
        while Door::open_at(port, open_to_all_but("x")).await.is_none() {
            tokio::task::yield_now().await;
        }
    });
    freed.await.expect("a dropped door frees its port");
}

#[tokio::test]
async fn garbage_ends_the_connection() {
    let behind = door().await;
    for garbage in [
        &[0xff; 16][..],
        &[0, 0, 0, 8, 0, 2, 0, 0],
        STARTUP.get(..6).unwrap(),
    ] {
        let mut client = TcpStream::connect(behind.door.address()).await.unwrap();
        client.write_all(garbage).await.unwrap();
        client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    assert_eq!(behind.door.counts().total(), 0);
}

#[test]
fn a_client_that_is_on_its_way_when_the_door_goes_keeps_nobody_else_from_ending() {
    let (ended_tx, ended) = std::sync::mpsc::channel();
    // On a thread of its own: what never waits cannot be interrupted.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let reached = runtime.unwrap().block_on(async {
            let (behind_tx, mut behind_rx) = watch::channel(Behind::Open("/nowhere".into()));
            drop(behind_tx);
            let counts = Counts::default();
            let reached = reach(&mut behind_rx, &counts, false).await;
            reached.map(drop).map_err(|error| error.kind())
        });
        let _ = ended_tx.send(reached);
    });
    let reached = ended.recv_timeout(Duration::from_secs(10));
    assert_eq!(reached, Ok(Err(io::ErrorKind::ConnectionAborted)));
}
