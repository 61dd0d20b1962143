//! One task a branch: takes requests and the outcomes of work, steps the state, journals it, publishes the view.
//!
//! Owns the record, the door and the handle of the server. A state is journaled before its work begins, so a killed
//! engine finds the work in the journal and does it again. Dropping the task leaves the server running: the next
//! engine adopts it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::engine_api::{
    BranchConnection, BranchView, CopyProgress, EnsuredBranch, Holder, Problem, ProblemKind,
    SessionId,
};
use model::{Secret, Ttl, chain};
use tokio::sync::{mpsc, oneshot, watch};

use super::after_restart::Now;
use super::hold::{Hold, JoinError, Joined};
use super::newborn::Newborn;
use super::quiet::Quiet;
use super::record::{ApplicationAccess, BranchRecord, Spec};
use super::request::{Handle, REQUESTS_MAX, Request};
use super::state::{AfterRemoval, Event, Failure, State};
use super::unjournaled::{JOURNAL_RETRY_PAUSE, Unjournaled};
use super::work::{self, Outcome};
use crate::app::Shared;
use crate::base::store::SnapshotPin;
use crate::clone::{self, CloneName};
use crate::door::{Behind, Counts, Door};
use crate::postgres::server::Server;
use crate::postgres::settings::socket_path;

/// How often the record of a branch that is gone is tried to be removed; the next engine's start removes it as well,
/// unless the journal took none of the branch's last states.
const REMOVAL_TRIES_MAX: u32 = 60;

/// How late a look at the clock may be before the engine counts as having been paused (a stopped process or machine).
const LATE_LOOK: SignedDuration = SignedDuration::from_secs(2);

/// A server that was ready this long is forgiven its earlier ends.
const RESTART_FORGIVEN_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// What to do about a branch in a phase that does not allow what is asked.
const WAIT: &str = "wait until `bough db-branches status` says ready";

/// How long a server may take to stop when the engine ends, one that is just starting included: it is ended in the midst of
/// that where it takes longer.
const SERVER_STOP_TIME_MAX: Duration = Duration::from_secs(75);

/// The work of a state, under way.
type Working = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The one that drives a branch.
pub(super) struct Driver {
    shared: Arc<Shared>,
    record: BranchRecord,
    newborn: Newborn,
    door: Door,
    counts: Arc<Counts>,
    /// How long nobody has connected.
    quiet: Quiet,
    server: Option<Arc<Server>>,
    /// Keeps the snapshot from being dropped while the branch's clone stands on it.
    pin: Option<SnapshotPin>,
    requests_rx: mpsc::Receiver<Request>,
    view_tx: watch::Sender<BranchView>,
    clone_tx: watch::Sender<Option<CloneName>>,
    progress_rx: watch::Receiver<Option<CopyProgress>>,
    /// Why the work under way waits.
    waits_rx: watch::Receiver<Option<String>>,
    /// Whose password the work under way lets in: another may be asked for meanwhile.
    briefed_url: Secret,
    /// What the journal did not take yet.
    unjournaled: Unjournaled,
    /// Set once the server was stopped on purpose: from then on no work is done, and its end is no event.
    stopped: bool,
}

impl Driver {
    /// A driver for a record, and its handle.
    pub(super) fn new(
        shared: Arc<Shared>,
        record: BranchRecord,
        newborn: Newborn,
        door: Door,
    ) -> (Self, Handle) {
        let (requests_tx, requests_rx) = mpsc::channel(REQUESTS_MAX);
        let (view_tx, view_rx) = watch::channel(record.view(None, 1));
        let (clone_tx, clone_rx) = watch::channel(record.clone.clone());
        let progress_rx = progress_of(&shared, &record.spec);
        // A clone may stand on its snapshot for its whole life: one that an earlier engine made does so still.
        let pin = record
            .state
            .snapshot()
            .and_then(|name| shared.bases.pin(name));
        let briefed_url = record.spec.url.clone();
        let handle = Handle {
            requests_tx,
            view_rx,
            clone_rx,
            counts: Arc::clone(door.counts()),
        };
        let driver = Self {
            shared,
            record,
            newborn,
            counts: Arc::clone(door.counts()),
            quiet: Quiet::default(),
            door,
            server: None,
            pin,
            requests_rx,
            view_tx,
            clone_tx,
            progress_rx,
            waits_rx: watch::Sender::new(None).subscribe(),
            briefed_url,
            unjournaled: Unjournaled::default(),
            stopped: false,
        };
        driver.door.hold(driver.record.hold.marks());
        (driver, handle)
    }

    /// Drives the branch until nothing is left of it. Those who watch its view learn of the end when what is given
    /// back is dropped.
    pub(super) async fn run(mut self) -> Self {
        while self.record.state != State::Gone {
            self.drive_one_state().await;
        }
        self.leave_journal().await;
        self
    }

    /// Removes the record of a branch that is gone.
    async fn leave_journal(&self) {
        let (catalogue, name) = (&self.shared.machine.catalogue, &self.record.name);
        for _ in 0..REMOVAL_TRIES_MAX {
            match catalogue.remove::<BranchRecord>(name.as_str()).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(branch = %name, %error, "a branch that is gone stays in the catalogue");
                }
            }
            tokio::time::sleep(JOURNAL_RETRY_PAUSE).await;
        }
    }

    /// Does the work of the state until its outcome, a request or the clock changes the state.
    async fn drive_one_state(&mut self) {
        let mut working = self.begin_work();
        let is_asleep = matches!(self.record.state, State::Asleep { .. });
        self.unjournaled = Unjournaled::default();
        loop {
            // What is being deleted expires no more: begun again each time, its removal would never end.
            let expiry = if self.is_going() {
                None
            } else {
                self.record.hold.next_deadline()
            };
            let deadline = earliest(expiry, self.quiet.deadline());
            let changed = tokio::select! {
                outcome = end_of(&mut working) => {
                    let event = self.keep_outcome(outcome).await;
                    self.take(event).await
                }
                event = self.unjournaled.due() => self.take(event).await,
                request = self.requests_rx.recv() => match request {
                    Some(Request::StopServer { reply }) => {
                        // A server that is just being started is ended with its start.
                        working = None;
                        self.stop_server().await;
                        let _ = reply.send(());
                        false
                    }
                    Some(request) => self.answer(request).await,
                    // The registry holds a sender for as long as the engine runs.
                    None => std::future::pending().await,
                },
                () = self.shared.machine.clock.wait_until(deadline) => self.look_at_the_clock(deadline).await,
                () = self.newborn.due() => self.enter_journal().await,
                () = self.counts.knocked(), if is_asleep => self.step(Event::Knocked).await.is_ok(),
                () = next_news(&mut self.progress_rx) => {
                    self.follow_progress();
                    self.publish();
                    false
                }
                () = next_news(&mut self.waits_rx) => {
                    self.publish();
                    false
                }
            };
            if changed {
                return;
            }
        }
    }

    /// The work of the state; none once the server was stopped.
    fn begin_work(&mut self) -> Option<Working> {
        if self.stopped {
            return None;
        }
        let waits_tx = watch::Sender::new(None);
        self.waits_rx = waits_tx.subscribe();
        let brief = work::Brief {
            waits_tx,
            record: self.record.clone(),
            server: self.server.clone(),
            pin: self.pin.clone(),
        };
        self.briefed_url.clone_from(&self.record.spec.url);
        let work = self.record.state.work();
        Some(Box::pin(work::perform(
            work,
            brief,
            Arc::clone(&self.shared),
        )))
    }

    /// Lets the application in with the password that was asked for while the server was made ready for an earlier one.
    async fn accept_newer_password(&self) -> Result<(), Failure> {
        if self.record.spec.url == self.briefed_url {
            return Ok(());
        }
        work::accept_application(&self.record, &self.shared).await
    }

    /// Keeps what a work came to, and tells what that is for the state.
    async fn keep_outcome(&mut self, outcome: Outcome) -> Event {
        match outcome {
            Outcome::SnapshotFound {
                snapshot,
                pin,
                clone,
                origin,
            } => {
                self.pin = Some(pin);
                self.record.clone = Some(clone);
                self.record.origin = Some(*origin);
                Event::SnapshotReady(snapshot)
            }
            Outcome::CloneTaken {
                snapshot,
                pin,
                clone,
                server,
                origin,
            } => {
                self.pin = pin;
                self.record.clone = Some(clone);
                self.record.origin = Some(*origin);
                match self.accept_newer_password().await {
                    Ok(()) => {
                        self.server = Some(server);
                        Event::CloneTaken(snapshot)
                    }
                    // Its removal ends the server.
                    Err(failure) => Event::Failed(failure),
                }
            }
            Outcome::SnapshotGone => Event::SnapshotGone,
            Outcome::Cloned => Event::Cloned,
            Outcome::Started(server) => {
                match self.accept_newer_password().await {
                    Ok(()) => {
                        self.server = Some(server);
                        Event::Started
                    }
                    // The next try adopts the server.
                    Err(failure) => Event::StartFailed(failure),
                }
            }
            Outcome::ServerExited => {
                self.server = None;
                // What it committed last may be gone with it.
                self.record.application_access = ApplicationAccess::Unsure;
                Event::ServerExited {
                    forgiven: self.was_ready_long(),
                }
            }
            Outcome::Stopped => {
                self.server = None;
                Event::Stopped
            }
            Outcome::StopFailed => {
                self.server = None;
                Event::StopFailed
            }
            Outcome::Removed => {
                self.server = None;
                self.record.clone = None;
                Event::Removed
            }
            Outcome::StartFailed(failure) => {
                self.server = None;
                Event::StartFailed(failure)
            }
            Outcome::Failed(failure) => Event::Failed(failure),
        }
    }

    /// Turns an event into the next state, or keeps it for when the journal takes it: requests are heard meanwhile, a
    /// deletion among them, which frees what a full disk lacks. True when the state changed.
    async fn take(&mut self, event: Event) -> bool {
        match self.step(event.clone()).await {
            Ok(()) => true,
            Err(problem) if self.newborn.is_unwritten() => self.give_up(problem).await,
            Err(problem) => {
                tracing::error!(branch = %self.record.name, detail = %problem.detail, "cannot go on");
                self.unjournaled = Unjournaled::of(event);
                false
            }
        }
    }

    fn was_ready_long(&self) -> bool {
        let ready_at = self.record.ready_at.unwrap_or(Timestamp::MAX);
        self.shared.machine.clock.now().duration_since(ready_at) >= RESTART_FORGIVEN_AFTER
    }

    /// Journals a branch for the first time. True when the state changed.
    async fn enter_journal(&mut self) -> bool {
        match self.shared.machine.catalogue.put(&self.record).await {
            Ok(()) => {
                self.newborn.tell(Ok(()));
                false
            }
            Err(error) => self.give_up(Problem::internal(&error)).await,
        }
    }

    /// Removes what the journal does not take: nobody was told that there is a branch. True when the state changed.
    async fn give_up(&mut self, problem: Problem) -> bool {
        self.newborn.tell(Err(problem));
        self.step(Event::DeleteAsked).await.is_ok()
    }

    /// Steps the state, journals it, and only then lets it be seen.
    async fn step(&mut self, event: Event) -> Result<(), Problem> {
        self.step_from(self.record.clone(), event).await
    }

    /// The same from a record that becomes the branch's with the step: where the journal refuses, nothing has changed.
    async fn step_from(&mut self, record: BranchRecord, event: Event) -> Result<(), Problem> {
        let next = record.state.step(event).map_err(|denied| {
            Problem::new(ProblemKind::Conflict, denied.to_string()).with_hint(WAIT)
        })?;
        let record = record.entering(next, &Now::of(&self.shared.machine));
        match self.shared.machine.catalogue.put(&record).await {
            Ok(()) => {}
            // Deleting frees the very space that a full disk lacks for the journal.
            Err(error)
                if matches!(
                    record.state,
                    State::Deleting(_) | State::Failing(_) | State::Gone
                ) =>
            {
                tracing::error!(branch = %record.name, %error, "removing without the journal");
            }
            Err(error) => return Err(Problem::internal(&error)),
        }
        tracing::info!(branch = %record.name, state = record.state.word(), "stepped");
        self.record = record;
        self.enter();
        self.newborn.tell(Ok(()));
        Ok(())
    }

    /// What follows at once from the state that was entered.
    fn enter(&mut self) {
        self.follow_progress();
        // What the last work waited for is over.
        self.waits_rx = watch::Sender::new(None).subscribe();
        let behind = match (&self.record.state, &self.server) {
            (State::Ready { .. }, Some(_)) => self.behind(),
            (_, _) => Behind::Closed,
        };
        self.door.lead_to(behind);
        let sleep_after = self.shared.machine.limits.sleep_after();
        self.quiet = match self.record.state {
            State::Ready { .. } => {
                Quiet::begin(&self.counts, self.shared.machine.clock.now(), sleep_after)
            }
            State::AwaitingSnapshot
            | State::Cloning { .. }
            | State::Starting { .. }
            | State::FallingAsleep { .. }
            | State::Asleep { .. }
            | State::Failing(_)
            | State::Failed(_)
            | State::Deleting(_)
            | State::Gone => Quiet::default(),
        };
        if self.record.state.snapshot().is_none() {
            self.pin = None;
        }
        self.publish();
    }

    /// Looks at the copy that is waited for by now: once a source was looked at, it may be another one.
    fn follow_progress(&mut self) {
        if self.record.state == State::AwaitingSnapshot {
            let progress_rx = progress_of(&self.shared, &self.record.spec);
            if !progress_rx.same_channel(&self.progress_rx) {
                self.progress_rx = progress_rx;
            }
        }
    }

    fn behind(&self) -> Behind {
        let Some(clone) = &self.record.clone else {
            return Behind::Closed;
        };
        let directory = self.shared.machine.layout.socket_dir(clone.as_str());
        Behind::Open(socket_path(&directory))
    }

    fn publish(&mut self) {
        let progress = self.progress_rx.borrow_and_update().clone();
        let waits = self.waits_rx.borrow_and_update().clone();
        let record = &self.record;
        self.clone_tx.send_replace(record.clone.clone());
        self.door.hold(record.hold.marks());
        self.view_tx.send_modify(|view| {
            *view = record.view(progress, view.generation + 1);
            view.message = view.message.take().or(waits);
        });
    }

    /// Expiry and silent sessions. True when the state changed.
    async fn look_at_the_clock(&mut self, due: Option<Timestamp>) -> bool {
        let now = self.shared.machine.clock.now();
        if due.is_some_and(|due| now.duration_since(due) >= LATE_LOOK) {
            // Who spoke meanwhile could not be heard: an engine that was paused hears him in a moment.
            self.record.hold.recover(now);
        }
        if self.record.hold.drop_silent(now) {
            tracing::warn!(branch = %self.record.name, "a session fell silent");
            self.keep_if_possible().await;
        }
        if self.record.hold.expires_at().is_some_and(|at| at <= now) {
            return self.step(Event::Expired).await.is_ok();
        }
        self.quiet.look(&self.counts, now) && self.fall_asleep().await
    }

    /// Puts a branch to sleep that nobody is connected to. True when the state changed.
    async fn fall_asleep(&mut self) -> bool {
        if !self.door.close_if_quiet() {
            return false;
        }
        let stepped = self.step(Event::QuietLong).await;
        if let Err(problem) = &stepped {
            tracing::warn!(branch = %self.record.name, detail = %problem.detail, "cannot fall asleep");
            self.enter();
        }
        stepped.is_ok()
    }

    /// Journals a change that is no step, and only then lets it be seen.
    ///
    /// # Errors
    /// Where the journal refuses: nothing has changed.
    async fn commit(&mut self, record: BranchRecord) -> Result<(), Problem> {
        if let Err(error) = self.shared.machine.catalogue.put(&record).await {
            tracing::error!(branch = %record.name, %error, "cannot journal");
            return Err(Problem::internal(&error));
        }
        self.record = record;
        self.publish();
        Ok(())
    }

    /// Journals a change of which nobody is promised anything, and lets it be seen: a lost one costs a grace.
    async fn keep_if_possible(&mut self) {
        if let Err(error) = self.shared.machine.catalogue.put(&self.record).await {
            tracing::error!(branch = %self.record.name, %error, "cannot journal");
        }
        self.publish();
    }

    fn view(&self) -> BranchView {
        self.view_tx.borrow().clone()
    }

    /// Answers a request. True when the state changed.
    async fn answer(&mut self, request: Request) -> bool {
        if self.newborn.is_unwritten() && self.enter_journal().await {
            // Unanswered: there is no such branch.
            return true;
        }
        // A caller that has gone away wants no answer.
        match request {
            // Unanswered: whoever asks waits for its end and has one made anew.
            Request::Ensure { .. } if self.is_going() => false,
            Request::Ensure {
                spec,
                ttl,
                holder,
                reply,
            } => {
                let (changed, answer) = self.ensure(*spec, ttl, holder).await;
                let _ = reply.send(answer);
                changed
            }
            Request::Join { holder, reply } => {
                let _ = reply.send(self.join(&holder).await);
                false
            }
            Request::Leave { id, reply } => {
                self.leave(&id, reply).await;
                false
            }
            Request::Stop { id, by, reply } => {
                let _ = reply.send(self.stop(&id, &by).await);
                false
            }
            Request::Extend { reply, .. } if self.is_going() => {
                let _ = reply.send(Err(self.gone()));
                false
            }
            Request::Extend { ttl, reply } => {
                let mut record = self.record.clone();
                record.hold.extend(ttl, self.shared.machine.clock.now());
                let committed = self.commit(record).await;
                let _ = reply.send(committed.map(|()| self.view()));
                false
            }
            Request::Reset { reply } => {
                let stepped = self.step(Event::ResetAsked).await;
                let changed = stepped.is_ok();
                let _ = reply.send(stepped.map(|()| self.view()));
                changed
            }
            Request::Delete { reply } if self.is_going() => {
                let _ = reply.send(());
                false
            }
            Request::Delete { reply } => {
                let stepped = self.step(Event::DeleteAsked).await;
                let _ = reply.send(());
                stepped.is_ok()
            }
            Request::Connection { session, reply } => {
                let _ = reply.send(self.connection(session.as_ref()));
                false
            }
            // `drive_one_state` hears it, since the work ends with it.
            Request::StopServer { .. } => false,
        }
    }

    async fn ensure(
        &mut self,
        spec: Spec,
        ttl: Ttl,
        holder: Option<Holder>,
    ) -> (bool, Result<EnsuredBranch, Problem>) {
        let (asked, existing) = (spec.view(), self.record.spec.view());
        // Nothing is left of one that failed, and nobody is in it: whoever mended what was asked for has it.
        let is_over = matches!(self.record.state, State::Failing(_) | State::Failed(_))
            && self.record.hold.sessions().is_empty();
        if asked != existing && !is_over {
            let detail = format!(
                "the id {:?} is taken in namespace {} by a branch of a different spec",
                self.record.id.as_str(),
                self.record.namespace
            );
            let mut problem = Problem::new(ProblemKind::SpecDiffers, detail)
                .with_hint("choose another id, or destroy that branch first");
            problem.asked = Some(Box::new(asked));
            problem.existing = Some(Box::new(existing));
            return (false, Err(problem));
        }
        let mut record = self.record.clone();
        let now = self.shared.machine.clock.now();
        if let Some(holder) = holder
            && let Err(problem) = join(&mut record.hold, &holder, now)
        {
            return (false, Err(problem));
        }
        record.hold.extend(ttl, now);
        if spec.url != record.spec.url {
            record.application_access = ApplicationAccess::Unsure;
        }
        if matches!(record.state, State::Failing(_) | State::Failed(_)) {
            record.spec = spec;
            let stepped = self.step_from(record, Event::Rebuild).await;
            let answer = |()| EnsuredBranch {
                reused: false,
                branch: self.view(),
            };
            return (stepped.is_ok(), stepped.map(answer));
        }
        // Who asked for it before was promised nothing older, and it may have to be made again.
        record.spec = spec.as_young_as(&record.spec);
        if let Err(problem) = self.commit(record).await {
            return (false, Err(problem));
        }
        let is_let_in = self.record.application_access == ApplicationAccess::Told;
        if matches!(self.record.state, State::Ready { .. }) && !is_let_in {
            if let Err(failure) = work::accept_application(&self.record, &self.shared).await {
                return (false, Err(failure.problem(ProblemKind::Internal)));
            }
            // The journal learns of it with the next entry.
            self.record.application_access = ApplicationAccess::Told;
        }
        let answer = EnsuredBranch {
            reused: true,
            branch: self.view(),
        };
        (false, Ok(answer))
    }

    async fn join(&mut self, holder: &Holder) -> Result<BranchView, Problem> {
        if self.is_going() {
            return Err(self.gone());
        }
        let now = self.shared.machine.clock.now();
        match join(&mut self.record.hold, holder, now)? {
            Joined::New => self.keep_if_possible().await,
            Joined::Again => {}
        }
        Ok(self.view())
    }

    async fn leave(&mut self, id: &SessionId, reply: oneshot::Sender<Option<BranchView>>) {
        let left = self.record.hold.leave(id, self.shared.machine.clock.now());
        self.publish();
        let _ = reply.send(left.then(|| self.view()));
        // Nobody waits for the disk: a leaving that is lost costs the grace of a silent session.
        if left {
            self.keep_if_possible().await;
        }
    }

    async fn stop(&mut self, id: &SessionId, by: &str) -> Result<Option<BranchView>, Problem> {
        let mut record = self.record.clone();
        if !record.hold.stop(id, by, self.shared.machine.clock.now()) {
            return Ok(None);
        }
        // On the disk before anybody is told: an engine that ends here must not let it go on.
        self.commit(record).await?;
        Ok(Some(self.view()))
    }

    /// Whether nothing can be asked of it any more.
    fn is_going(&self) -> bool {
        matches!(
            self.record.state,
            State::Deleting(AfterRemoval::Gone) | State::Gone
        )
    }

    fn gone(&self) -> Problem {
        let detail = format!("the branch {} is being deleted", self.record.name);
        Problem::new(ProblemKind::NotFound, detail)
    }

    fn connection(&self, session: Option<&SessionId>) -> Result<BranchConnection, Problem> {
        let is_reachable = matches!(
            self.record.state,
            State::Ready { .. } | State::FallingAsleep { .. } | State::Asleep { .. }
        );
        if is_reachable && let Some(connection) = self.record.connection() {
            let source_addresses = self.shared.sources.addresses(&self.record.spec);
            return Ok(BranchConnection {
                source_addresses,
                pass: self.door.pass(session),
                ..connection
            });
        }
        let id = &self.record.id;
        if let State::Failing(failure) | State::Failed(failure) = &self.record.state {
            let failed = Failure {
                message: format!("the branch {id} has failed: {}", failure.message),
                ..failure.clone()
            };
            return Err(failed.problem(ProblemKind::Conflict));
        }
        let detail = format!("the branch {id} is {}", self.record.state.word());
        Err(Problem::new(ProblemKind::Conflict, detail).with_hint(WAIT))
    }

    /// Stops the server cleanly, whoever started it; its data stays for the next engine.
    async fn stop_server(&mut self) {
        self.stopped = true;
        self.door.lead_to(Behind::Closed);
        let server = self.server.take();
        if let Some(clone) = &self.record.clone {
            let machine = &self.shared.machine;
            let stopping = clone::stop_server(machine, clone, server.as_deref());
            let stopped = tokio::time::timeout(SERVER_STOP_TIME_MAX, stopping).await;
            let stopped = match stopped {
                Ok(stopped) => stopped,
                Err(_) => clone::end_server(machine, clone).await,
            };
            if let Err(error) = stopped {
                let error = chain(&error);
                tracing::error!(branch = %self.record.name, error, "cannot stop a branch's server");
                return;
            }
        }
        self.sync().await;
    }

    /// Writes the files of a branch that nobody uses any more to the disk, so that they outlive the volume's mount.
    async fn sync(&mut self) {
        let Some(clone) = &self.record.clone else {
            return;
        };
        let tree = self.shared.machine.layout.clone_dir(clone);
        if !tree.is_dir() {
            return;
        }
        match tokio::task::spawn_blocking(move || crate::volume::sync(&tree)).await {
            Ok(Ok(())) => {
                self.record.unsynced_on = None;
                self.record.boot_id = None;
                self.keep_if_possible().await;
            }
            Ok(Err(error)) => {
                tracing::error!(branch = %self.record.name, %error, "cannot write a branch to the disk");
            }
            Err(error) => {
                tracing::error!(branch = %self.record.name, %error, "a branch was not written to the disk");
            }
        }
    }
}

/// A session joins, or says that it lives.
fn join(hold: &mut Hold, holder: &Holder, now: Timestamp) -> Result<Joined, Problem> {
    hold.join(holder, now).map_err(|error| {
        let kind = match error {
            JoinError::TooMany => ProblemKind::LimitPassed,
            JoinError::Stopped { .. } => ProblemKind::SessionStopped,
        };
        Problem::new(kind, error.to_string())
    })
}

/// The progress of the copy that a branch of `spec` waits for.
fn progress_of(shared: &Shared, spec: &Spec) -> watch::Receiver<Option<CopyProgress>> {
    let meant = shared.sources.meant(spec);
    shared.bases.progress(spec, &meant)
}

/// Ends with the work's outcome, once; never, where there is none.
async fn end_of(working: &mut Option<Working>) -> Outcome {
    let Some(work) = working else {
        return std::future::pending().await;
    };
    let outcome = work.await;
    *working = None;
    outcome
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Ends at the next news; never, once there can be none.
async fn next_news<T>(news_rx: &mut watch::Receiver<Option<T>>) {
    if news_rx.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod on_a_server;
