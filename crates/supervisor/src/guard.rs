//! A guarded session: its network is looked at, from before its program starts until nothing of it is left.
//!
//! ```text
//!   prepare: a thread takes the filter ─▶ the watcher stands by ─▶ proxy and receivers run
//!   spawn:   that thread starts the program, and ends
//!   finish:  the watcher is let go; the counts are told
//! ```
//!
//! Owns the order of these and every reason why a session cannot be guarded, each told before anything runs. Filters
//! are per thread: the rest of this process is not filtered, and the listener is its own descriptor.

mod inherited;
mod launcher;
pub mod watcher;

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use wire::pump::Inbox;

use crate::child::Child;
use crate::command::{Command, SpawnError};
use crate::fence::{
    self, Authority, Fence, FencePlan, InheritedSocket, KnownHosts, Proxy, Report, TlsError,
};
use crate::incoming;
use crate::intercept::{Ears, Interceptor};
use crate::limits;
use crate::network_thread::NetworkThread;
use crate::remote::TargetNetwork;
use crate::seccomp::{InstallError, Scope};
use crate::session::{Event, Session};
use crate::signals::Signals;
use crate::uploads::Uploads;
use inherited::Inherited;
use launcher::Launcher;
use watcher::{Watcher, WatcherError, WatcherProgram};

/// The variable by which processes of a session are known again; its value is the session's id.
pub const SESSION_VARIABLE: &str = "BOUGH_SESSION";

/// How long the end of a session waits for connections that its programs left open.
const LAST_EVENTS_WAIT_MAX: Duration = Duration::from_millis(200);

/// How often names are looked up again: those of databases that fail over live for 5 to 60 seconds.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);

/// Why a session cannot be guarded.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The kernel, or somebody above, does not let it be filtered.
    #[error("cannot guard the program's network")]
    Install(#[from] InstallError),
    /// This process may not look into its own children.
    #[error("cannot look into the program's calls: {call} is forbidden here")]
    Blind {
        /// The call that failed.
        call: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A connection that stands already would be the program's, past the fence.
    #[error(
        "the program would inherit a connection to {address} (descriptor {descriptor}), which the fence is around"
    )]
    Inherited {
        /// Its number.
        descriptor: i32,
        /// Where it leads.
        address: String,
    },
    /// Nobody could end the session's processes if this one were killed.
    #[error("cannot stand by for this program's own end")]
    Watcher(#[from] WatcherError),
    /// No certificate could be made.
    #[error("cannot serve programs that ask for TLS")]
    Tls(#[from] TlsError),
    /// Sockets, threads or descriptors are wanting.
    #[error("cannot set up the session's proxy")]
    Setup(#[source] io::Error),
}

impl GuardError {
    /// What can be done about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Install(error) => Some(error.hint()),
            Self::Blind { .. } => Some(
                "a container needs CAP_SYS_PTRACE for it, and /proc/sys/kernel/yama/ptrace_scope must be 0 or 1",
            ),
            Self::Inherited { .. } => {
                Some("close it in the shell or program that starts `bough exec`")
            }
            Self::Watcher(_) | Self::Tls(_) | Self::Setup(_) => None,
        }
    }
}

/// What a session is guarded by.
#[derive(Debug)]
pub struct GuardPlan {
    /// Tells the session's processes from others.
    pub id: String,
    /// Who is fenced.
    pub fence: FencePlan,
    /// The addresses of the sources' names; they are looked up again while the session runs.
    pub hosts: KnownHosts,
    /// The target's network, and what comes from there; none: all is this machine's.
    pub network: Option<(Arc<TargetNetwork>, Inbox)>,
    /// What carries the session's connections: best the thread that carries its links to agents.
    pub thread: NetworkThread,
    /// What stands by for this process's own end.
    pub watcher: WatcherProgram,
}

/// A session that is ready to start.
#[derive(Debug)]
pub struct Prepared {
    launcher: Launcher,
    guard: Guard,
}

/// A session that runs.
#[derive(Debug)]
pub struct Guard {
    id: String,
    interceptor: Arc<Interceptor>,
    watcher: Watcher,
    events_rx: mpsc::Receiver<Event>,
    /// Dropping it ends the proxy; connections that stand end with the thread.
    _serving: AbortOnDropHandle<()>,
    thread: NetworkThread,
}

/// Makes everything ready that a program's network is looked at by.
///
/// # Errors
/// [`GuardError`]; nothing runs then.
pub fn prepare(plan: GuardPlan) -> Result<Prepared, GuardError> {
    let authority = Authority::new(certificate_names(&plan.fence))?;
    let fence = Fence::new(plan.fence, &plan.hosts);
    let inherited = inherited::connections().map_err(GuardError::Setup)?;
    let inherited = check_inherited(&fence, &inherited)?;
    let (network, inbox) = plan.network.unzip();
    let scope = match &network {
        Some(_) => Scope::Network,
        None => Scope::Connections,
    };
    let (session, events_rx) = Session::new(fence, network, authority);
    session.ledger.note_inherited(inherited);
    let (launcher, listener) = Launcher::start(scope)?;
    let watcher = Watcher::start(&plan.watcher, &plan.id, &listener)?;
    watcher.check_sight()?;
    let ears = watcher.asked().map(|asked| Ears { listener, asked });
    let started = ears.and_then(|ears| start_network(&plan.thread, Arc::new(session), ears, inbox));
    let (interceptor, serving) = started.map_err(GuardError::Setup)?;
    let guard = Guard {
        id: plan.id,
        interceptor,
        watcher,
        events_rx,
        _serving: serving,
        thread: plan.thread,
    };
    Ok(Prepared { launcher, guard })
}

/// What is told of the connections that the program will have from the start, none of which is the fence's to lead.
///
/// # Errors
/// [`GuardError::Inherited`] names the first that is.
fn check_inherited(
    fence: &Fence,
    inherited: &[Inherited],
) -> Result<Vec<InheritedSocket>, GuardError> {
    if let Some(fenced) = inherited.iter().find(|one| one.is_fenced(fence)) {
        let InheritedSocket {
            descriptor,
            address,
        } = fenced.told();
        return Err(GuardError::Inherited {
            descriptor,
            address,
        });
    }
    Ok(inherited.iter().map(Inherited::told).collect())
}

/// Every name that a program may expect of the servers that the proxy stands in for.
fn certificate_names(plan: &FencePlan) -> Vec<String> {
    let hosts = plan.servers.iter().flat_map(|server| &server.addresses);
    let hosts = hosts.map(|address| address.host.clone());
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = hosts
        .filter(|host| !host.starts_with('/'))
        .chain(own)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Begins to carry connections on `thread`, and starts the receivers.
fn start_network(
    thread: &NetworkThread,
    session: Arc<Session>,
    ears: Ears,
    inbox: Option<Inbox>,
) -> io::Result<(Arc<Interceptor>, AbortOnDropHandle<()>)> {
    let (interceptor, listeners) = {
        let _inside = thread.runtime().enter();
        let (proxy, listeners) = Proxy::open()?;
        let interceptor = Interceptor::new(ears, Arc::clone(&session), proxy)?;
        (Arc::new(interceptor), listeners)
    };
    let follower = Arc::clone(&interceptor);
    let serving = thread.runtime().spawn(async move {
        tokio::select! {
            () = fence::serve(Arc::clone(&session), listeners) => {}
            () = keep_resolving(&session) => {}
            () = take_part(Arc::clone(&session), follower, inbox) => {}
        }
    });
    interceptor.start()?;
    Ok((interceptor, AbortOnDropHandle::new(serving)))
}

/// Delivers what comes to the target, and follows what the program's sockets become; for good.
async fn take_part(session: Arc<Session>, interceptor: Arc<Interceptor>, inbox: Option<Inbox>) {
    let Some(inbox) = inbox else {
        return std::future::pending().await;
    };
    let network = session.network.clone();
    let network = network.expect("an inbox comes with its network");
    let deliver = async {
        incoming::serve(session, network, inbox).await;
        // No agent joins any more; whoever started this session ends it.
        std::future::pending::<()>().await;
    };
    tokio::join!(deliver, interceptor.follow_closings());
}

async fn keep_resolving(session: &Session) {
    if !session.fence.book.has_names() {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(RESOLVE_INTERVAL).await;
        session.fence.book.refresh(&session.remote).await;
    }
}

impl Prepared {
    /// The certificate of the session's authority, in PEM, for programs that verify.
    pub fn certificate(&self) -> &str {
        self.guard.interceptor.session.authority.certificate()
    }

    /// Starts `command`, with [`SESSION_VARIABLE`] in its environment.
    ///
    /// # Errors
    /// [`SpawnError`]; a program that could not be looked into is one more reason here.
    pub fn spawn(
        self,
        mut command: Command,
        signals: &mut Signals,
    ) -> Result<(Child, Guard), SpawnError> {
        let Self {
            launcher,
            mut guard,
        } = self;
        command
            .env
            .insert(OsString::from(SESSION_VARIABLE), OsString::from(&guard.id));
        let before = limits::raise_descriptors();
        let child = Child::spawn_by(signals, || launcher.launch(command, before))?;
        guard.interceptor.set_tree(child.tree());
        guard.watcher.name_child(child.process());
        Ok((child, guard))
    }
}

impl Guard {
    /// The next thing that the user should know. Cancel-safe; never comes once the session's network is gone.
    pub async fn event(&mut self) -> Event {
        match self.events_rx.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// What carries the session's connections.
    pub fn thread(&self) -> &NetworkThread {
        &self.thread
    }

    /// What was counted so far.
    pub fn report(&self) -> Report {
        self.interceptor.session.ledger.report()
    }

    /// Waits for what programs that have ended sent last, as long as it moves, and tells what their last connections came
    /// to: a program that is refused and ends at once is faster than whoever looks at its connection. Waits at most
    /// 30 s, of which 200 ms for those that go on, and not at all where no connection is open and the target has every
    /// datagram.
    pub async fn last_events(&mut self) -> Vec<Event> {
        let session = Arc::clone(&self.interceptor.session);
        let uploads = self.thread.run(Uploads::wait(Arc::clone(&session)));
        tokio::join!(uploads, session.datagrams.settle());
        let conversations = &self.interceptor.session.conversations;
        conversations.close();
        // Those that go on have nothing more to tell in time.
        let _open = tokio::time::timeout(LAST_EVENTS_WAIT_MAX, conversations.wait()).await;
        std::iter::from_fn(|| self.events_rx.try_recv().ok()).collect()
    }

    /// Ends the guard: what is left of the session gets no further into the network.
    pub fn finish(self) -> Report {
        let report = self.report();
        self.watcher.let_go();
        report
    }
}
