//! A loan between a played host and an agent: what it leads to, what it does not, and that its end cuts everything.

use agent::{Agent, Settings};
use tokio::io::{DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What no step takes as long as.
const SOON: Duration = Duration::from_secs(30);

/// Bytes that wait in a link.
const LINK_BYTES: usize = 64 << 10;

/// A session whose agent is in this program's own network.
async fn target() -> Session {
    let settings = Settings {
        key: AgentKey::new([7; 32]),
        resolv_conf: "/etc/resolv.conf".into(),
        hosts: "/etc/hosts".into(),
        root: "/".into(),
        process: None,
        grace: SOON,
        idle: None,
        hands_off: None,
    };
    let id = SessionId::draw();
    let key = settings.key.session_key(&id);
    let (ours, theirs) = duplex(LINK_BYTES);
    tokio::spawn(async move { Agent::new(settings).serve(theirs).await });
    let (session, _inbox) = pump::connect(once(ours), id, key, SOON).await.unwrap();
    session
}

/// Dials by the one link that there is.
fn once(
    link: DuplexStream,
) -> impl FnMut() -> std::future::Ready<std::io::Result<DuplexStream>> + Send + 'static {
    let mut link = Some(link);
    move || {
        let link = link.take();
        std::future::ready(link.ok_or_else(|| std::io::ErrorKind::NotConnected.into()))
    }
}

/// A server that says back what it hears.
async fn echo() -> Address {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = client.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Address {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// A host that was lent the way to `address`, and what carries it.
async fn borrowed(address: &Address) -> (Session, JoinHandle<()>) {
    let wish = LoanWish::new(address, false);
    let heard = LoanWish::hear(&mut line(&wish).as_bytes()).await;
    assert_eq!(heard.as_ref(), Some(&wish), "what is said is what is heard");
    let (id, key) = wish.credential().unwrap();
    let (ours, theirs) = duplex(LINK_BYTES);
    let target = target().await;
    let carrying = tokio::spawn(async move { carry(theirs, &wish, target).await });
    let (host, _inbox) = pump::connect(once(ours), id, key, LOAN_GRACE)
        .await
        .unwrap();
    (host, carrying)
}

fn to(host: &str, port: u16) -> OpenRequest {
    OpenRequest::Tcp {
        destination: Endpoint::Address(SocketAddr::new(host.parse().unwrap(), port)),
    }
}

#[tokio::test]
async fn the_one_address_is_reached_through_the_agent_and_no_other() {
    let (lent, other) = (echo().await, echo().await);
    let (host, _carrying) = borrowed(&lent).await;
    let (mut stream, _) = host.open(to("127.0.0.1", lent.port)).await.unwrap();
    stream.write_all(b"rows").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"rows");
    TcpStream::connect(("127.0.0.1", other.port))
        .await
        .expect("somebody is there");
    for elsewhere in [
        to("127.0.0.1", other.port),
        to("127.0.0.2", lent.port),
        OpenRequest::Environ,
    ] {
        let refused = host.open(elsewhere.clone()).await.unwrap_err();
        let errno = Errno::EACCES;
        assert_eq!(refused, OpenFailure::Refused { errno }, "{elsewhere:?}");
    }
}

#[tokio::test]
async fn what_the_target_does_not_reach_is_refused_with_its_own_error() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let host = "127.0.0.1".to_owned();
    let (host, _carrying) = borrowed(&Address { host, port }).await;
    let refused = host.open(to("127.0.0.1", port)).await.unwrap_err();
    let errno = Errno::ECONNREFUSED;
    assert_eq!(refused, OpenFailure::Refused { errno });
}

#[tokio::test]
async fn a_loan_that_is_taken_back_cuts_what_goes_through_it() {
    let lent = echo().await;
    let (host, carrying) = borrowed(&lent).await;
    let (mut stream, _) = host.open(to("127.0.0.1", lent.port)).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    let mut said = [0; 4];
    stream.read_exact(&mut said).await.unwrap();
    // As it goes with a program that is killed.
    carrying.abort();
    let cut = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
    cut.expect("it ends").expect_err("and is no orderly end");
    let refused = timeout(SOON, host.open(to("127.0.0.1", lent.port))).await;
    refused.expect("it is answered").unwrap_err();
}

#[tokio::test]
async fn a_piece_is_no_wish_and_no_answer() {
    let wish = line(&LoanWish::new(&echo().await, true));
    let whole = LoanWish::hear(&mut wish.as_bytes()).await.unwrap();
    assert!(whole.tries_itself);
    let cut = wish.trim_end();
    for piece in ["", "\n", "{}\n", cut, "error: no such command\n"] {
        assert!(
            LoanWish::hear(&mut piece.as_bytes()).await.is_none(),
            "{piece}"
        );
    }
    let long = format!("{}{wish}", " ".repeat(4096));
    assert!(LoanWish::hear(&mut long.as_bytes()).await.is_none());
    let waits = LoanAnswer::Waits("/run/x".into());
    for answer in [LoanAnswer::Reached, waits] {
        let heard: Option<LoanAnswer> = hear(&mut answer.line().as_bytes()).await;
        assert_eq!(heard, Some(answer));
    }
}
