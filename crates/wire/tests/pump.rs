//! Sessions on a runtime, over links that break: in memory, with real tasks.

#![cfg(test)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use wire::pump::{
    ConnectError, Guest, Inbound, Inbox, Offer, OpenFailure, Relay, Session, Stream, connect,
    greet, relay,
};
use wire::{
    AgentKey, Answer, CallError, CloseReason, DnsFailure, DnsQuery, Endpoint, Errno, GreetingError,
    Notice, OpenRequest, Opened, Refusal, Request, Role, SessionId, SessionKey, Start,
};

const GRACE: Duration = Duration::from_secs(60);

/// What no step of these tests takes as long as.
const SOON: Duration = Duration::from_secs(20);

/// What one side holds at most for a stream that nobody reads, with what is not acknowledged yet.
const HELD_BY_STALLED_MAX: usize = 512 * 1024;

fn key() -> AgentKey {
    AgentKey::new([5; 32])
}

fn tcp(port: u16) -> OpenRequest {
    OpenRequest::Tcp {
        destination: Endpoint::Address(([127, 0, 0, 1], port).into()),
    }
}

/// An agent in memory: echoes every stream but those to port 1, knows no name.
#[derive(Clone, Default)]
struct Agent {
    session: Arc<Mutex<Option<Session>>>,
    /// The agent's end of the present link, to be cut.
    cut: Arc<tokio::sync::Notify>,
    /// Nobody is reached.
    away: Arc<Mutex<bool>>,
    /// So many who come back are sent away first.
    sent_away: Arc<Mutex<usize>>,
}

impl Agent {
    fn dial(&self) -> io::Result<DuplexStream> {
        if *self.away.lock().unwrap() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(100_000);
        tokio::spawn(self.clone().serve(theirs));
        Ok(ours)
    }

    async fn serve(self, transport: DuplexStream) {
        let Ok(guest) = greet(transport, |id| Some(key().session_key(id))).await else {
            return;
        };
        let session = match guest.start() {
            Start::Fresh => {
                let (session, inbox) = Session::new(Role::Agent, GRACE);
                tokio::spawn(answer(inbox));
                *self.session.lock().unwrap() = Some(session.clone());
                session
            }
            Start::Resumed { .. } if self.is_busy() => {
                return guest.refuse(Refusal::TooManySessions).await;
            }
            Start::Resumed { .. } => {
                let session = self.session.lock().unwrap().clone();
                match session {
                    Some(session) => session,
                    None => return guest.refuse(Refusal::NoSuchSession).await,
                }
            }
        };
        self.carry(guest, &session).await;
    }

    fn is_busy(&self) -> bool {
        let mut left = self.sent_away.lock().unwrap();
        let is_busy = *left > 0;
        *left = left.saturating_sub(1);
        is_busy
    }

    async fn carry(&self, guest: Guest<DuplexStream>, session: &Session) {
        tokio::select! {
            () = guest.carry(session) => {}
            () = self.cut.notified() => {}
        }
    }

    async fn session(&self) -> (Session, Inbox) {
        let agent = self.clone();
        let dial = move || std::future::ready(agent.dial());
        let id = SessionId::draw();
        connect(dial, id, key().session_key(&id), GRACE)
            .await
            .unwrap()
    }
}

async fn answer(mut inbox: Inbox) {
    while let Some(inbound) = inbox.next().await {
        match inbound {
            Inbound::Stream(offer) if *offer.request() == tcp(1) => {
                offer.refuse(Errno::ECONNREFUSED);
            }
            Inbound::Stream(offer) if matches!(offer.request(), OpenRequest::Udp { .. }) => {
                tokio::spawn(echo_datagrams(offer.accept(Opened::default())));
            }
            Inbound::Stream(offer) => {
                tokio::spawn(echo(offer.accept(Opened::default())));
            }
            Inbound::Call(question) => {
                let failure = Answer::Dns(Err(DnsFailure::NoSuchName));
                question.answer(failure).unwrap();
            }
            Inbound::Notice(_) => panic!("agents get none"),
        }
    }
}

async fn echo(stream: Stream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        writer.shutdown().await.ok();
    }
}

async fn echo_datagrams(stream: Stream) {
    while let Ok(Some((from, bytes))) = stream.receive_datagram().await {
        assert_eq!(stream.send_datagram(from, &bytes), Ok(true));
    }
}

/// Sends `length` bytes through the echo and checks what comes back.
async fn bounce(stream: impl AsyncRead + AsyncWrite, length: usize) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
    let expected = sent.clone();
    let write = async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let read = async move {
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        assert!(got == expected, "{} of {length} bytes", got.len());
    };
    tokio::join!(write, read);
}

async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(SOON, what).await.expect("it hangs")
}

#[tokio::test]
async fn who_speaks_before_a_refusal_is_told_of_it_where_he_waits() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let mut stream = session.offer(tcp(1)).unwrap();
    // More than anybody holds for a stream: it waits for the answer.
    let refused = soon(stream.write_all(&[1; 8_000_000])).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn streams_and_calls_are_answered() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
    soon(bounce(stream, 3_000_000)).await;
    let refused = soon(session.open(tcp(1))).await.unwrap_err();
    let errno = Errno::ECONNREFUSED;
    assert_eq!(refused, OpenFailure::Refused { errno });
    let name = "x".into();
    let query = Request::Dns(DnsQuery { name, kind: 1 });
    assert_eq!(
        soon(session.call(query)).await,
        Ok(Answer::Dns(Err(DnsFailure::NoSuchName)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_their_link_again_and_again() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..20 {
        let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
        tasks.spawn(bounce(stream, index * 100_000));
    }
    let cutter = tokio::spawn({
        let agent = agent.clone();
        async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                agent.cut.notify_waiters();
            }
        }
    });
    soon(tasks.join_all()).await;
    cutter.await.unwrap();
    assert!(!session.is_closed());
    let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
    soon(bounce(stream, 10)).await;
    let drained = async {
        while session.held() > 0 || session.streams() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(drained).await;
}

/// Lets every other task that is ready run once; `yield_now` waits for them all to be idle.
async fn turn() {
    let mut is_over = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Carries bytes until `cut`; then the client's end breaks, while the agent's stands, and what was on its way to the
/// agent comes while the next link is made, `wait` turns of the scheduler after it was dialled.
async fn through_a_middle(
    client: DuplexStream,
    agent: DuplexStream,
    cut: Arc<tokio::sync::Notify>,
    dialled: Arc<tokio::sync::Notify>,
    wait: usize,
) {
    let (mut from_agent, mut to_agent) = tokio::io::split(agent);
    let mut under_way = Vec::new();
    {
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let upwards = async {
            while !under_way.is_empty() || from_client.read_buf(&mut under_way).await? > 0 {
                let count = to_agent.write(&under_way).await?;
                under_way.drain(..count);
            }
            io::Result::Ok(())
        };
        tokio::select! {
            _ = upwards => return,
            _ = tokio::io::copy(&mut from_agent, &mut to_client) => return,
            () = cut.notified() => {}
        }
        while under_way.len() < 200_000 {
            let more = from_client.read_buf(&mut under_way);
            if !matches!(
                tokio::time::timeout(Duration::from_millis(5), more).await,
                Ok(Ok(1..))
            ) {
                break;
            }
        }
    }
    let next = dialled.notified();
    let late = async {
        next.await;
        // Another moment of the greeting each time.
        for _ in 0..wait {
            turn().await;
        }
        for piece in under_way.chunks(5_000) {
            to_agent.write_all(piece).await?;
            turn().await;
        }
        // It stands until the agent lets go of it.
        std::future::pending::<io::Result<()>>().await
    };
    let mut nobody = tokio::io::sink();
    tokio::select! {
        _ = late => {}
        _ = tokio::io::copy(&mut from_agent, &mut nobody) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_still_stands_carries_nothing_once_another_does() {
    let agent = Agent::default();
    let (cut, dialled) = (
        Arc::new(tokio::sync::Notify::new()),
        Arc::new(tokio::sync::Notify::new()),
    );
    let dial = {
        let (agent, cut, dialled) = (agent.clone(), Arc::clone(&cut), Arc::clone(&dialled));
        let mut links = 0;
        move || {
            links += 1;
            let wait = links % 30;
            let (ours, theirs) = tokio::io::duplex(100_000);
            let (cut, next) = (Arc::clone(&cut), Arc::clone(&dialled));
            dialled.notify_waiters();
            let reached = agent.dial().map(|up| {
                tokio::spawn(through_a_middle(theirs, up, cut, next, wait));
                ours
            });
            std::future::ready(reached)
        }
    };
    let id = SessionId::draw();
    let (session, _inbox) = soon(connect(dial, id, key().session_key(&id), GRACE))
        .await
        .unwrap();
    for _ in 0..200 {
        let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
        let bouncing = tokio::spawn(bounce(stream, 400_000));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        cut.notify_waiters();
        soon(bouncing).await.unwrap();
        assert!(!session.is_closed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_streams_with_one_stalled_all_but_it_arrive() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let (mut stalled, _) = soon(session.open(tcp(80))).await.unwrap();
    let stuffing = tokio::spawn(async move {
        // Never reads: the echo's answers pile up as far as its window goes.
        let outcome = tokio::time::timeout(Duration::from_secs(1), async {
            loop {
                stalled.write_all(&[1; 10_000]).await.unwrap();
            }
        });
        outcome.await.expect_err("a stream that nobody reads stops");
        stalled
    });
    let theirs = agent.session.lock().unwrap().clone().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
        tasks.spawn(bounce(stream, 200_000));
    }
    soon(tasks.join_all()).await;
    let stalled = soon(stuffing).await.unwrap();
    assert_eq!(session.streams(), 1);
    assert!(session.held() > 32 * 1024, "what the stalled one wrote");
    // Send buffers and first windows of both ways, and nothing that grows.
    assert!(session.held() <= HELD_BY_STALLED_MAX, "{}", session.held());
    assert!(theirs.held() <= HELD_BY_STALLED_MAX, "{}", theirs.held());
    drop(stalled);
    soon(async {
        while session.streams() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_joined_to_streams_get_every_byte_whatever_becomes_of_the_link() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for length in [0, 1, 5_000, 70_000, 1_000_000, 5_000_000] {
        let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
        let (program, mut socket) = tokio::io::duplex(100_000);
        tasks.spawn(bounce(program, length));
        tasks.spawn(async move { relay(&stream, &mut socket).await.unwrap() });
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        agent.cut.notify_waiters();
    }
    soon(tasks.join_all()).await;
    let drained = async {
        while session.held() > 0 || session.streams() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(drained).await;
}

#[tokio::test]
async fn a_relay_ends_with_its_socket_and_with_its_session() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
    let (program, mut socket) = tokio::io::duplex(100);
    let both = async {
        tokio::join!(relay(&stream, &mut socket), async {
            let mut program = program;
            program.write_all(&[1; 1000]).await.unwrap();
        })
    };
    let broken = soon(both).await.0.unwrap_err();
    assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe, "nobody reads");

    let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
    let (_program, mut socket) = tokio::io::duplex(100);
    let ending = async {
        tokio::join!(relay(&stream, &mut socket), async {
            session.close(CloseReason::Done);
        })
    };
    let reset = soon(ending).await.0.unwrap_err();
    assert_eq!(reset.raw_os_error(), Some(Errno::ECONNRESET.0.into()));
}

#[tokio::test]
async fn a_wrong_key_is_told() {
    let agent = Agent::default();
    let dial = move || std::future::ready(agent.dial());
    let id = SessionId::draw();
    let error = connect(dial, id, SessionKey::new([0; 32]), GRACE).await;
    let refusal = Refusal::NotProven;
    assert!(matches!(
        error.unwrap_err(),
        ConnectError::Greeting { source: GreetingError::Refused { refusal: told } } if told == refusal
    ));
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_agent_stays_away_ends_after_its_grace() {
    let agent = Agent::default();
    let (session, _inbox) = agent.session().await;
    let (mut stream, _) = session.open(tcp(80)).await.unwrap();
    *agent.away.lock().unwrap() = true;
    let before = tokio::time::Instant::now();
    agent.cut.notify_waiters();
    assert_eq!(session.closed().await, CloseReason::GraceExpired);
    assert!(before.elapsed() >= GRACE, "{:?}", before.elapsed());
    assert!(before.elapsed() < GRACE + Duration::from_secs(5));
    stream.read_u8().await.unwrap_err();
    let name = "x".into();
    let query = Request::Dns(DnsQuery { name, kind: 1 });
    assert_eq!(session.call(query).await, Err(CallError::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_short_loss_is_borne_and_a_long_one_told() {
    let agent = Agent::default();
    let (session, _inbox) = agent.session().await;
    let patience = Duration::from_secs(4);
    let lost = session.lost_for(patience);
    tokio::pin!(lost);
    let mut still_there = async |time: u64| {
        tokio::time::timeout(Duration::from_secs(time), &mut lost)
            .await
            .is_err()
    };
    assert!(still_there(100).await);
    agent.cut.notify_waiters();
    assert!(still_there(100).await, "it came back");
    *agent.away.lock().unwrap() = true;
    agent.cut.notify_waiters();
    assert!(still_there(3).await);
    assert!(!still_there(2).await);
    session.close(CloseReason::Done);
    session.lost_for(Duration::MAX).await;
}

#[tokio::test]
async fn a_session_that_its_agent_forgot_is_lost() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
    soon(bounce(stream, 100)).await;
    *agent.session.lock().unwrap() = None;
    agent.cut.notify_waiters();
    assert_eq!(soon(session.closed()).await, CloseReason::Lost);
}

#[tokio::test]
async fn a_close_reaches_the_other_side() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let theirs = agent.session.lock().unwrap().clone().unwrap();
    session.close(CloseReason::Done);
    assert_eq!(soon(theirs.closed()).await, CloseReason::Done);
    assert!(session.is_closed());
}

#[tokio::test]
async fn a_stream_that_nobody_wants_is_refused() {
    let agent = Agent::default();
    let (session, inbox) = soon(agent.session()).await;
    drop(inbox);
    let theirs = agent.session.lock().unwrap().clone().unwrap();
    let errno = Errno::ECONNRESET;
    assert_eq!(
        soon(theirs.open(incoming())).await.unwrap_err(),
        OpenFailure::Refused { errno }
    );
    assert!(!session.is_closed());
}

#[tokio::test]
async fn a_request_that_is_given_up_leaves_nothing() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    for _ in 0..5000 {
        drop(session.offer(tcp(80)).unwrap());
    }
    soon(async {
        while session.streams() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What the agent offers a client that it has a connection for.
fn incoming() -> OpenRequest {
    let address = ([127, 0, 0, 1], 1).into();
    OpenRequest::Incoming {
        subscription: 1,
        peer: address,
        local: address,
        copy: false,
    }
}

/// A stream that the agent opens, and its offer here.
async fn offered(
    agent: &Agent,
    inbox: &mut Inbox,
) -> (JoinHandle<Result<(Stream, Opened), OpenFailure>>, Offer) {
    let theirs = agent.session.lock().unwrap().clone().unwrap();
    let opening = tokio::spawn(async move { theirs.open(incoming()).await });
    let Some(Inbound::Stream(offer)) = soon(inbox.next()).await else {
        panic!("a stream is offered")
    };
    (opening, offer)
}

#[tokio::test]
async fn an_offer_that_is_taken_back_is_withdrawn() {
    let agent = Agent::default();
    let (_session, mut inbox) = soon(agent.session()).await;
    let (opening, offer) = offered(&agent, &mut inbox).await;
    let moment = Duration::from_millis(20);
    let withdrawn = tokio::time::timeout(moment, offer.withdrawn()).await;
    withdrawn.expect_err("it still stands");
    opening.abort();
    soon(offer.withdrawn()).await;
}

#[tokio::test]
async fn a_notice_reaches_the_client() {
    let agent = Agent::default();
    let (_session, mut inbox) = soon(agent.session()).await;
    let theirs = agent.session.lock().unwrap().clone().unwrap();
    let notice = Notice::CopiesDropped {
        subscription: 1,
        connections: 2,
    };
    assert!(theirs.notify(notice.clone()));
    let Some(Inbound::Notice(told)) = soon(inbox.next()).await else {
        panic!("a notice")
    };
    assert_eq!(told, notice);
}

#[tokio::test]
async fn who_leaves_has_said_so_even_if_its_runtime_ends_at_once() {
    let agent = Agent::default();
    let served = (agent.clone(), tokio::runtime::Handle::current());
    let dial = move || {
        let (ours, theirs) = tokio::io::duplex(100_000);
        served.1.spawn(served.0.clone().serve(theirs));
        std::future::ready(Ok(ours))
    };
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let id = SessionId::draw();
            let session = connect(dial, id, key().session_key(&id), GRACE).await;
            session.unwrap().0.leave(CloseReason::Done).await;
        });
    });
    let ended = tokio::task::spawn_blocking(move || client.join().unwrap());
    soon(ended).await.unwrap();
    let theirs = agent.session.lock().unwrap().clone().unwrap();
    assert_eq!(soon(theirs.closed()).await, CloseReason::Done);
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_a_link_until_one_comes_or_its_grace_is_over() {
    let (alone, _inbox) = Session::new(Role::Agent, GRACE);
    let before = tokio::time::Instant::now();
    alone.wait_apart().await;
    assert!(before.elapsed() >= GRACE, "{:?}", before.elapsed());
    assert_eq!(alone.closed().await, CloseReason::GraceExpired);

    let (theirs, _inbox) = Session::new(Role::Agent, GRACE);
    assert!(!theirs.is_linked());
    let carried = theirs.clone();
    let dial = move || {
        let (ours, transport) = tokio::io::duplex(100_000);
        let carried = carried.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let guest = greet(transport, |id| Some(key().session_key(id))).await;
            guest.unwrap().carry(&carried).await;
        });
        std::future::ready(Ok(ours))
    };
    let id = SessionId::draw();
    let connecting = connect(dial, id, key().session_key(&id), GRACE);
    let (session, ()) = tokio::join!(connecting, theirs.wait_apart());
    let (session, _inbox) = session.unwrap();
    assert!(session.is_linked() && theirs.is_linked());
    let before = tokio::time::Instant::now();
    theirs.wait_apart().await;
    assert_eq!(before.elapsed(), Duration::ZERO, "a link carries it");
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_told_to_who_waits_for_nothing_else() {
    let agent = Agent::default();
    let (session, _inbox) = agent.session().await;
    let waiting = tokio::spawn(async move { session.lost_for(Duration::from_secs(4)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = tokio::time::Instant::now();
    *agent.away.lock().unwrap() = true;
    agent.cut.notify_waiters();
    waiting.await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn a_session_is_untouched_until_its_agent_answers() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    assert!(session.is_untouched());
    let (_stream, _) = soon(session.open(tcp(80))).await.unwrap();
    assert!(!session.is_untouched());
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_for_a_while_comes_again() {
    let agent = Agent::default();
    let (session, _inbox) = agent.session().await;
    *agent.sent_away.lock().unwrap() = 3;
    agent.cut.notify_waiters();
    let (stream, _) = session.open(tcp(80)).await.unwrap();
    bounce(stream, 10).await;
    assert_eq!(*agent.sent_away.lock().unwrap(), 0);
}

#[tokio::test]
async fn datagrams_come_and_go_whole_with_their_addresses() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let request = OpenRequest::Udp {
        connected: None,
        version_6: false,
    };
    let (stream, _) = soon(session.open(request)).await.unwrap();
    let to = ([10, 0, 0, 1], 53).into();
    for text in ["a question", "", "another"] {
        assert_eq!(stream.send_datagram(to, text.as_bytes()), Ok(true));
        let answer = soon(stream.receive_datagram()).await.unwrap();
        let (from, bytes) = answer.expect("the stream goes on");
        assert_eq!((from, &bytes[..]), (to, text.as_bytes()));
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_says_why() {
    let agent = Agent::default();
    let (_session, mut inbox) = soon(agent.session()).await;
    let (opening, offer) = offered(&agent, &mut inbox).await;
    let ours = offer.accept(Opened::default());
    let (theirs, _) = soon(opening).await.unwrap().unwrap();
    ours.reset(Errno::ETIMEDOUT);
    assert_eq!(soon(theirs.cut()).await, Errno::ETIMEDOUT);
}

#[tokio::test]
async fn to_write_nothing_never_waits() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let (mut stream, _) = soon(session.open(tcp(80))).await.unwrap();
    assert_eq!(soon(stream.write(b"")).await.unwrap(), 0);
}

#[tokio::test]
async fn a_relay_takes_no_more_of_its_socket_than_its_stream_has_room_for() {
    let agent = Agent::default();
    let (_session, mut inbox) = soon(agent.session()).await;
    let theirs = agent.session.lock().unwrap().clone().unwrap();
    let asking = theirs.clone();
    let opening = tokio::spawn(async move { asking.open(incoming()).await });
    let Some(Inbound::Stream(offer)) = soon(inbox.next()).await else {
        panic!("a stream is offered")
    };
    let mut ours = offer.accept(Opened::default());
    let (stream, _) = soon(opening).await.unwrap().unwrap();
    let (mut program, mut socket) = tokio::io::duplex(1000);
    let sent: Vec<u8> = (0..300_000).map(|at: u32| (at % 251) as u8).collect();
    let expected = sent.clone();
    tokio::spawn(async move {
        program.write_all(&sent).await.unwrap();
        program.shutdown().await.unwrap();
        tokio::io::copy(&mut program, &mut tokio::io::sink())
            .await
            .unwrap();
    });
    let relaying = tokio::spawn(async move { relay(&stream, &mut socket).await });
    // Nobody reads yet: it fills up, and is given time to take too much.
    soon(async {
        while theirs.held() < 60_000 {
            tokio::task::yield_now().await;
        }
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut got = Vec::new();
    soon(ours.read_to_end(&mut got)).await.unwrap();
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
    ours.shutdown().await.unwrap();
    soon(relaying).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_a_socket_says_first_is_heard_before_its_stream_gets_it() {
    let agent = Agent::default();
    let (session, _inbox) = soon(agent.session()).await;
    let (stream, _) = soon(session.open(tcp(80))).await.unwrap();
    let (mut program, mut socket) = tokio::io::duplex(1000);
    assert_eq!(stream.try_write(b"banner"), Ok(6));
    let (mut under_way, mut heard) = (Relay::default(), b"before ".to_vec());
    let listening = under_way.overhear(&stream, &mut socket, &mut heard);
    let speaking = async {
        let mut banner = [0; 6];
        program.read_exact(&mut banner).await.unwrap();
        program.write_all(b"hello").await.unwrap();
        banner
    };
    let (count, banner) = soon(async { tokio::join!(listening, speaking) }).await;
    assert_eq!(
        (count.unwrap(), &banner),
        (5, b"banner"),
        "what the echo says"
    );
    assert_eq!(heard, b"before hello");
}
