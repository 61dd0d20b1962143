//! The user's process: started, stood in for, waited for.
//!
//! ```text
//!   spawn -> wait: the child runs, signals and stops go through `job` -> it ended: ChildEnd::Exited | Signalled
//!                   \-- StopHandle::stop: TERM to its tree, grace, KILL -> the tree is gone: ChildEnd::Stopped
//!   dropped before its end: KILL to its tree
//! ```
//!
//! One owner, one loop. The child stays in this process's group and session, so the terminal and its job control are
//! its own; this process adopts the orphans of its tree, so that none is lost from sight.
//! Leaves to `tree` who belongs to it, to `job` what a signal means.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use model::ExitCode;
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitIdStatus, getpid, set_child_subreaper, waitid,
};
use tokio::sync::watch;

use crate::command::{Command, SpawnError, Start};
use crate::disposition::{send_to_child, stop_self};
use crate::job::{self, Action, Event, Job};
use crate::namespaces::Namespaces;
use crate::process::{Process, Stat};
use crate::signals::{Received, Signals};
use crate::terminal::{self, SavedModes};
use crate::tree::Tree;

/// How long a program that is asked to end may take, unless the caller says otherwise: what `docker stop` gives.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// What shells add to the number of the signal that ended a program (POSIX, Shell Command Language, 2.8.2).
const SIGNAL_BASE: i32 = 128;

/// How the child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEnd {
    /// By itself, with this exit code.
    Exited(u8),
    /// By a signal, of this number.
    Signalled(i32),
    /// We ended it, with all that descended from it.
    Stopped(StopReason),
}

/// Why we end a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// What its session stood on is lost and cannot be had again: its branch, its way out.
    SessionLost,
    /// Its user asked for it.
    Asked,
}

impl ChildEnd {
    /// The exit code that tells it on: the child's own, 128 and the signal's number, or ours for a lost session.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => u8::try_from(SIGNAL_BASE + signal).unwrap_or(u8::MAX),
            Self::Stopped(StopReason::SessionLost) => ExitCode::Branch.into(),
            Self::Stopped(StopReason::Asked) => ExitCode::Success.into(),
        }
    }
}

/// Ends the child from elsewhere. The first call decides the reason; later ones are ignored.
#[derive(Debug, Clone)]
pub struct StopHandle {
    order_tx: watch::Sender<Option<StopOrder>>,
}

#[derive(Debug, Clone, Copy)]
struct StopOrder {
    reason: StopReason,
    grace: Duration,
}

impl StopHandle {
    /// Asks for the end of the child and of all that descends from it: TERM, then KILL to what is left after `grace`.
    /// [`Child::wait`] does it and returns once it is done.
    pub fn stop(&self, reason: StopReason, grace: Duration) {
        self.order_tx.send_if_modified(|order| {
            let is_first = order.is_none();
            order.get_or_insert(StopOrder { reason, grace });
            is_first
        });
    }
}

/// The running child. Dropping it before its end kills it and all that descends from it.
///
/// While it lives this process adopts orphans and waits for every child that it did not have before: nothing else in
/// this process may wait for children of its own that are younger.
#[must_use = "dropping it kills the child"]
pub struct Child {
    process: Process,
    own_pid: i32,
    tree: Tree,
    others: BTreeSet<Process>,
    job: Job,
    end: Option<ChildEnd>,
    leads_session: bool,
    modes: Option<SavedModes>,
    order_tx: watch::Sender<Option<StopOrder>>,
}

impl Child {
    /// Starts `command`. From here on `signals` catches what stops a process, too.
    ///
    /// # Errors
    /// [`SpawnError`] says whether the program was not found, cannot be executed, or what else failed.
    pub fn spawn(command: Command, signals: &mut Signals) -> Result<Self, SpawnError> {
        Self::spawn_by(signals, || command.start(Start::Plain))
    }

    /// The same in the namespaces of another process.
    ///
    /// # Errors
    /// As [`Child::spawn`].
    pub fn spawn_within(
        command: Command,
        namespaces: &Namespaces,
        signals: &mut Signals,
    ) -> Result<Self, SpawnError> {
        let joining = namespaces.joining();
        Self::spawn_by(signals, || command.start(Start::Within(joining)))
    }

    /// The same for a child that `start` starts, in whichever thread.
    pub(crate) fn spawn_by(
        signals: &mut Signals,
        start: impl FnOnce() -> Result<Process, SpawnError>,
    ) -> Result<Self, SpawnError> {
        signals.catch_stops()?;
        let pid = getpid();
        // It cannot fail with this argument (prctl(2)); without it orphans would only be adopted by somebody else.
        let _always = set_child_subreaper(Some(pid));
        let own_pid = pid.as_raw_nonzero().get();
        let others: BTreeSet<Process> = Stat::read_all()
            .into_iter()
            .filter(|stat| stat.parent == own_pid)
            .map(|stat| stat.process)
            .collect();
        let modes = SavedModes::of_stdin();
        let process = start()?;
        Ok(Self {
            process,
            own_pid,
            tree: Tree::adopted(process, own_pid, others.clone()),
            others,
            job: Job::Running,
            end: None,
            leads_session: terminal::leads_its_session(own_pid),
            modes,
            order_tx: watch::Sender::new(None),
        })
    }

    /// The child itself.
    pub fn process(&self) -> Process {
        self.process
    }

    /// It and all that descends from it.
    pub(crate) fn tree(&self) -> Tree {
        self.tree.clone()
    }

    /// A handle that ends it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle {
            order_tx: self.order_tx.clone(),
        }
    }

    /// Waits for its end, and passes signals and stops on until then. Descendants that it left behind run on, as they
    /// would without us, unless it was stopped by a [`StopHandle`].
    ///
    /// Cancel-safe: dropping the future leaves the child running, unattended until the next call.
    pub async fn wait(&mut self, signals: &mut Signals) -> ChildEnd {
        let mut orders_rx = self.order_tx.subscribe();
        self.observe();
        let order = loop {
            if let Some(end) = self.end {
                return end;
            }
            tokio::select! {
                received = signals.next() => {
                    // First what the child did: a signal meets the state that it was sent into, and a lost SIGCHLD
                    // does no harm.
                    self.observe();
                    self.take_signal(received);
                }
                order = next_order(&mut orders_rx) => break order,
            }
        };
        self.stop(order, signals).await
    }

    /// What of its tree runs; after its end, what it left behind.
    pub fn members(&self) -> Vec<Process> {
        self.tree.members()
    }

    /// Ends what the child left behind. After its end; see [`Tree::end`] for what is returned.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub async fn end_remains(
        &mut self,
        signals: &mut Signals,
        grace: Duration,
    ) -> io::Result<Vec<Process>> {
        let tree = self.tree.clone();
        let mut ending = std::pin::pin!(tree.end(grace));
        loop {
            tokio::select! {
                remains = &mut ending => return remains,
                // Orphans are waited for as they end, else they would stay behind as zombies.
                _received = signals.next() => self.observe(),
            }
        }
    }

    async fn stop(&mut self, order: StopOrder, signals: &mut Signals) -> ChildEnd {
        self.observe();
        if let Some(end) = self.end {
            return end;
        }
        // Its errors and what it could not end change nothing here: the session is over, and KILL has been sent.
        if self.end_remains(signals, order.grace).await.is_err() {
            self.tree.kill();
        }
        self.observe();
        self.finish(ChildEnd::Stopped(order.reason))
    }

    fn take_signal(&mut self, received: Received) {
        // Its pid is free for others once it has been waited for.
        if self.end.is_some() {
            return;
        }
        let sender = job::sender(received, self.leads_session, |pid| self.tree.contains(pid));
        self.take(Event::Signal(received.signal, sender));
    }

    fn take(&mut self, event: Event) {
        let (job, action) = self.job.step(event);
        self.job = job;
        match action {
            None => {}
            Some(Action::Forward(signal)) => self.send(signal),
            Some(Action::ContinueChild) if self.is_stopped() => self.send(libc::SIGCONT),
            Some(Action::ContinueChild) => {}
            Some(Action::StopSelf(signal)) => stop_self(signal),
        }
    }

    fn send(&self, signal: i32) {
        // A setuid child may refuse; it would have refused the sender too.
        let _refused = send_to_child(self.process.pid(), signal);
    }

    fn is_stopped(&self) -> bool {
        self.process.stat().is_some_and(|stat| stat.is_stopped())
    }

    /// Takes in what happened to the child and to adopted orphans.
    fn observe(&mut self) {
        let options = WaitIdOptions::EXITED
            | WaitIdOptions::STOPPED
            | WaitIdOptions::CONTINUED
            | WaitIdOptions::NOHANG;
        while self.end.is_none() {
            let Ok(Some(status)) = waitid(WaitId::Pid(raw(self.process.pid())), options) else {
                break;
            };
            if let Some(end) = end_of(&status) {
                self.finish(end);
            } else if let Some(signal) = status.stopping_signal() {
                self.take(if terminal::controls_this_session() {
                    Event::ChildStopped(signal)
                } else {
                    Event::ChildStoppedUnseen
                });
            } else if status.continued() {
                self.take(Event::ChildContinued);
            }
        }
        self.reap_orphans();
    }

    /// Waits for adopted orphans that have ended, and for nobody else.
    fn reap_orphans(&self) {
        while let Some(pid) = first_ended_child() {
            if !self.is_orphan(pid) {
                // Somebody else's child hides what comes after it.
                Stat::read_all()
                    .iter()
                    .filter(|stat| stat.parent == self.own_pid && stat.is_zombie())
                    .filter(|stat| self.is_orphan(stat.process.pid()))
                    .for_each(|stat| reap(stat.process.pid()));
                return;
            }
            reap(pid);
        }
    }

    fn is_orphan(&self, pid: i32) -> bool {
        Process::of(pid)
            .is_some_and(|process| process != self.process && !self.others.contains(&process))
    }

    fn finish(&mut self, end: ChildEnd) -> ChildEnd {
        self.end = Some(end);
        match end {
            // What a program that ends by itself leaves behind, it may have meant to.
            ChildEnd::Exited(_) => {}
            ChildEnd::Signalled(_) | ChildEnd::Stopped(_) => {
                self.modes.iter().for_each(SavedModes::restore);
            }
        }
        end
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("process", &self.process)
            .field("job", &self.job)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.tree.kill();
        }
    }
}

async fn next_order(orders_rx: &mut watch::Receiver<Option<StopOrder>>) -> StopOrder {
    orders_rx
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|order| *order)
        .expect("the child holds a sender for as long as it waits")
}

fn end_of(status: &WaitIdStatus) -> Option<ChildEnd> {
    if let Some(code) = status.exit_status() {
        // exit(3): the low eight bits are the status.
        Some(ChildEnd::Exited((code & 0xff) as u8))
    } else {
        status.terminating_signal().map(ChildEnd::Signalled)
    }
}

/// A child that has ended, which stays to be waited for.
fn first_ended_child() -> Option<i32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    #[expect(unsafe_code, reason = "rustix does not say whom waitid found")]
    // SAFETY: all zeroes are a siginfo_t, and the call writes a whole one into memory of ours. si_pid is filled in
    // for a found child, and is 0 when none was found (waitid(2)).
    let pid = unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) != 0 {
            return None;
        }
        info.assume_init().si_pid()
    };
    (pid != 0).then_some(pid)
}

fn reap(pid: i32) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // Another thread that waits for everything may have been first.
    let _gone = waitid(WaitId::Pid(raw(pid)), options);
}

fn raw(pid: i32) -> Pid {
    Pid::from_raw(pid).expect("the pid of a process is not 0")
}
