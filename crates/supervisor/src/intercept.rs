//! Questions of the session answered: which call is meant, by whom, and what becomes of it.
//!
//! Owns the receiving threads and the dispatch. Each answer is one of four: the kernel goes on, the call has succeeded,
//! it fails with an errno, or somebody answers later. A thread here never waits: what takes time goes to the runtime.

mod arguments;
mod connect;
mod datagram;
mod datagram_socket;
mod holes;
mod late_connect;
mod listening;
mod message_header;
mod peer_name;
mod remote_connect;
mod unix_connect;
mod waits;

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use crate::asker::Asker;
use crate::closings::{Closed, Closings};
use crate::fence::Proxy;
use crate::incoming;
use crate::ports::Ports;
use crate::seccomp::{Asked, Call, Listener, Question, Received, call_of};
use crate::session::{Event, Session};
use crate::tree::Tree;
use arguments::Arguments;
use holes::Holes;
use remote_connect::Promptness;
use waits::Waits;

/// Threads that receive. Two: while one looks into a process the other takes the next question up.
const RECEIVERS: usize = 2;

/// How often listeners are looked at of whose end nobody tells.
const UNTOLD_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The kernel makes it, as if nobody had asked.
    GoOn,
    /// It has been made, with success.
    Succeed,
    /// It has been made, and gives this.
    Give(i64),
    /// It fails with this errno.
    Fail(i32),
    /// Somebody else answers, or it is over.
    Later,
}

/// A call that cannot be looked into.
type Looked<T> = Result<T, Answer>;

/// What hears the session's calls, and who is told of them.
#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) listener: Listener,
    pub(crate) asked: Asked,
}

/// The session's interceptor.
#[derive(Debug)]
pub(crate) struct Interceptor {
    pub(crate) listener: Listener,
    asked: Asked,
    pub(crate) session: Arc<Session>,
    proxy: Proxy,
    /// The network namespace that the session's addresses are meant in.
    network: u64,
    runtime: Handle,
    ports: Ports,
    holes: Option<Holes>,
    waits: Waits,
    /// Held from the look at a marked number until it is taken: two threads of a program ask at the same time.
    marking: Mutex<()>,
    promptness: Promptness,
    /// The session's processes, once it has one.
    tree: OnceLock<Tree>,
}

impl Interceptor {
    /// An interceptor that answers nobody yet. Inside the runtime.
    ///
    /// # Errors
    /// When loopback or descriptors are wanting.
    pub(crate) fn new(ears: Ears, session: Arc<Session>, proxy: Proxy) -> io::Result<Self> {
        let any = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let network = crate::socket::Socket(std::os::fd::AsFd::as_fd(&any)).network()?;
        let leads = session.network.is_some();
        let holes = if leads || session.fence.asserts_isolation() || session.fence.book.has_names()
        {
            Some(Holes::open()?)
        } else {
            None
        };
        let Ears { listener, asked } = ears;
        Ok(Self {
            listener,
            asked,
            session,
            proxy,
            network,
            runtime: Handle::current(),
            ports: Ports::default(),
            holes,
            waits: Waits::default(),
            marking: Mutex::default(),
            promptness: Promptness::default(),
            tree: OnceLock::new(),
        })
    }

    /// Names the session's processes.
    pub(crate) fn set_tree(&self, tree: Tree) {
        // There is one session.
        let _once = self.tree.set(tree);
    }

    /// Sockets that are gone are nobody's any more: follows the kernel's word of them, for good.
    pub(crate) async fn follow_closings(self: Arc<Self>) {
        let closings = match Closings::open() {
            Ok(closings) => closings,
            Err(error) => {
                tracing::warn!(%error, "closed sockets are not noticed here");
                return std::future::pending().await;
            }
        };
        let mut untold = tokio::time::interval(UNTOLD_LOOK_INTERVAL);
        untold.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The kernel has no group for sockets of MPTCP (`sock_diag_destroy_group`, linux/sock_diag.h).
            let told = tokio::select! {
                told = closings.next() => told,
                _ = untold.tick() => {
                    Ok(Closed::Sockets(self.ports.closed_untold()))
                }
            };
            let gone = match told {
                Ok(Closed::Sockets(gone)) => gone,
                Ok(Closed::Unknown) => {
                    let mut gone = self.ports.closed_listeners();
                    gone.extend(self.session.datagrams.closed());
                    gone.extend(self.waits.closed());
                    gone
                }
                Err(error) => {
                    tracing::warn!(%error, "closed sockets are no longer noticed");
                    return std::future::pending().await;
                }
            };
            for cookie in gone {
                self.session.datagrams.forget(cookie);
                self.session.names.forget(cookie);
                self.waits.forget(cookie);
                if self.ports.unlisten(cookie) {
                    let session = Arc::clone(&self.session);
                    tokio::spawn(async move { incoming::unsubscribe(&session, cookie).await });
                }
            }
        }
    }

    /// Starts the receiving threads. They end when no filtered process is left, or with this process.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        for _ in 0..RECEIVERS {
            let interceptor = Arc::clone(self);
            let thread = std::thread::Builder::new().name("receiver".to_owned());
            thread.spawn(move || interceptor.receive())?;
        }
        Ok(())
    }

    fn receive(self: Arc<Self>) {
        loop {
            match self.listener.receive() {
                Ok(Received::Question(question)) => {
                    self.asked.note(question.id);
                    let answer = self.answer(&question);
                    self.send(&question, answer);
                }
                Ok(Received::Nothing) => {}
                Ok(Received::Over) => return,
                Err(error) => {
                    // Nothing that a later try would mend; what is asked waits, and ends with the session.
                    tracing::error!(%error, "the session's calls cannot be received");
                    return;
                }
            }
        }
    }

    fn send(&self, question: &Question, answer: Answer) {
        match answer {
            Answer::GoOn => self.listener.let_go_on(question),
            Answer::Succeed => self.listener.succeed(question),
            Answer::Give(value) => self.listener.give(question, value),
            Answer::Fail(errno) => self.listener.fail(question, errno),
            Answer::Later => {}
        }
    }

    fn answer(self: &Arc<Self>, question: &Question) -> Answer {
        let asker = Asker::new(question.thread);
        let call = call_of(question.arch, question.number);
        let looked = match call {
            Some(Call::Multiplexed) => {
                arguments::of_socketcall(asker, &question.args, question.arch)
            }
            Some(call) => Ok(Some((call, Arguments::new(question.args, question.arch)))),
            None => Ok(None),
        };
        let looked = match looked {
            Ok(Some((call, arguments))) => self.dispatch(question, asker, call, &arguments),
            Ok(None) => Ok(Answer::GoOn),
            Err(error) => Err(self.judge(asker, &error)),
        };
        looked.unwrap_or_else(|answer| answer)
    }

    fn dispatch(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        call: Call,
        arguments: &Arguments,
    ) -> Looked<Answer> {
        match call {
            Call::Connect => self.connect(question, asker, arguments),
            Call::Bind => self.bind(question, asker, arguments),
            Call::LocalName => self.local_name(question, asker, arguments),
            Call::PeerName => self.peer_name(question, asker, arguments),
            Call::Option => self.socket_error(question, asker, arguments),
            Call::Listen => self.listen(question, asker, arguments),
            Call::Socket => self.make_socket(question, asker, arguments),
            Call::SendTo | Call::SendMessage | Call::SendMessages => {
                if arguments::is_connecting_send(call, arguments) {
                    return Ok(Answer::Fail(libc::EOPNOTSUPP));
                }
                self.send_datagram(question, asker, call, arguments)
            }
            Call::ReceiveFrom | Call::ReceiveMessage | Call::ReceiveMessages => {
                self.receive_datagram(question, asker, call, arguments)
            }
            // What it multiplexes was told apart before.
            Call::Multiplexed => Ok(Answer::GoOn),
        }
    }

    /// What becomes of a call that could not be looked into: it fails, as the kernel would have it of a bad pointer or
    /// descriptor; whatever else keeps the fence from looking (rights, descriptors, memory) does not lead past it.
    fn judge(&self, asker: Asker, error: &io::Error) -> Answer {
        match error.raw_os_error() {
            Some(same @ (libc::EFAULT | libc::EBADF)) => Answer::Fail(same),
            // Whoever is gone needs no answer.
            Some(libc::ESRCH) => Answer::Later,
            _ => {
                let program = asker.program();
                self.session.ledger.count_unreadable(program.clone());
                self.session.tell(Event::Unreadable(program));
                Answer::Fail(libc::EACCES)
            }
        }
    }

    /// The same of a descriptor that does not say what it is: that it is no socket is the kernel's to tell.
    fn judge_socket(&self, asker: Asker, error: &io::Error) -> Answer {
        match error.raw_os_error() {
            Some(libc::ENOTSOCK) => Answer::GoOn,
            _ => self.judge(asker, error),
        }
    }
}
