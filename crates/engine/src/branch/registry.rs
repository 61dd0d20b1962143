//! Every branch by its name: finds the driver that a request is for, makes new ones, brings back old ones.
//!
//! Owns the set of living drivers and the limit on their number. Leaves every decision about one branch to its driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::engine_api::{
    BranchConnection, BranchPhase, BranchView, EnsureBranch, EnsuredBranch, Holder, JoinSession,
    Problem, ProblemKind, SERVERS_STOP_TIME_MAX, SessionId, SessionView, SourceRef,
};
use model::{BranchName, Namespace, Secret, Ttl};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::after_restart::{self, Now};
use super::doorway::{open_door, open_door_at};
use super::driver::Driver;
use super::hold::Hold;
use super::newborn::{Journaled, Newborn};
use super::record::{ApplicationAccess, BranchRecord, Spec};
use super::request::{Handle, Request};
use super::state::State;
use crate::app::Shared;
use crate::base::copy::check_spec;

/// How often a request tries again that met a branch at the very end of its deletion.
const ENSURE_TRIES_MAX: usize = 8;

/// Bytes that a session's id, owner and program may have, each: as long as the longest path of a program (`PATH_MAX`).
const SESSION_BYTES_MAX: usize = 4096;

/// Branches that one session may hold: a file with more databases than that is a mistake.
const SESSION_BRANCHES_MAX: usize = 64;

/// Whether branches are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adding {
    Allowed,
    /// The servers were stopped: the next engine adds them.
    Over,
}

/// The living branches.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    handles: Arc<Mutex<BTreeMap<BranchName, Handle>>>,
    /// Held while a branch is added, so that one name never has two drivers.
    adding: tokio::sync::Mutex<Adding>,
    tasks: Mutex<JoinSet<()>>,
}

impl Registry {
    /// An empty registry.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            handles: Arc::default(),
            adding: tokio::sync::Mutex::new(Adding::Allowed),
            tasks: Mutex::new(JoinSet::new()),
        }
    }

    /// Brings back every branch of the journal after a restart of the engine.
    ///
    /// # Errors
    /// [`Problem`] when the journal cannot be read.
    pub async fn recover(&self) -> Result<(), Problem> {
        let records = self
            .shared
            .machine
            .catalogue
            .all::<BranchRecord>()
            .map_err(|error| Problem::internal(&error))?;
        let now = Now::of(&self.shared.machine);
        let mut moving = Vec::new();
        for record in records {
            let record = after_restart::recover(record, &now);
            match open_door_at(
                record.port,
                &self.shared.machine,
                &record.name,
                record.created_at,
                &record.spec.url(),
            )
            .await
            {
                Some(door) => drop(self.start(record, Newborn::grown(), door)),
                None => moving.push(record),
            }
        }
        // Only now: a port that is free may be the one of a branch whose turn had not come.
        for record in moving {
            self.move_door(record).await?;
        }
        Ok(())
    }

    /// Starts a branch whose port somebody else has taken meanwhile.
    async fn move_door(&self, record: BranchRecord) -> Result<(), Problem> {
        let (name, source) = (&record.name, record.spec.url());
        let door = open_door(&self.shared.machine, name, record.created_at, &source).await?;
        let record = BranchRecord {
            port: door.port(),
            ..record
        };
        tracing::warn!(branch = %record.name, port = record.port, "its port was taken: the branch has a new one");
        let kept = self.shared.machine.catalogue.put(&record).await;
        kept.map_err(|error| Problem::internal(&error))?;
        self.start(record, Newborn::grown(), door);
        Ok(())
    }

    fn start(&self, record: BranchRecord, newborn: Newborn, door: crate::door::Door) -> Handle {
        let name = record.name.clone();
        let (driver, handle) = Driver::new(Arc::clone(&self.shared), record, newborn, door);
        lock(&self.handles).insert(name.clone(), handle.clone());
        let handles = Arc::clone(&self.handles);
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            // Out of the list first: whoever waited for the end must not find it there.
            let ended = driver.run().await;
            lock(&handles).remove(&name);
            drop(ended);
        });
        handle
    }

    fn handle(&self, name: &BranchName) -> Result<Handle, Problem> {
        let found = lock(&self.handles).get(name).cloned();
        found.ok_or_else(|| Problem::new(ProblemKind::NotFound, format!("no branch {name}")))
    }

    /// The branch that `request` asks for: the living one, or a new one that is being made. One that a warm clone
    /// becomes is ready in the answer.
    ///
    /// # Errors
    /// [`Problem`] of kind `SpecDiffers`, `LimitPassed`, `BadRequest` or `NotFound`.
    pub async fn ensure(&self, request: &EnsureBranch) -> Result<EnsuredBranch, Problem> {
        self.check_ttl(request.ttl)?;
        let url = self.shared.source_url(&request.source)?;
        if let (SourceRef::Name(name), Some(_)) = (&request.source, &request.proxy) {
            let detail =
                format!("a proxy is for a source that is given by its URL, not for {name}");
            return Err(Problem::new(ProblemKind::BadRequest, detail));
        }
        let spec = Spec::of(request, &url).map_err(|error| {
            Problem::new(
                ProblemKind::BadRequest,
                format!("the source's URL is {error}"),
            )
        })?;
        if let Some(holder) = &request.holder {
            check_holder(holder)?;
        }
        check_spec(&spec.copy).map_err(|error| {
            let problem = Problem::new(ProblemKind::BadRequest, error.to_string());
            Problem {
                hint: error.hint(),
                ..problem
            }
        })?;
        let name = BranchName::of(&request.namespace, &request.id);
        for _ in 0..ENSURE_TRIES_MAX {
            let adding = self.adding.lock().await;
            if *adding == Adding::Over {
                drop(adding);
                // The engine's end cuts the connection, and whoever asks finds the next engine.
                return std::future::pending().await;
            }
            let Ok(handle) = self.handle(&name) else {
                let (handle, journaled_rx) = self.add(request, &name, spec).await?;
                // From here on whoever asks for it finds it.
                drop(adding);
                return Ok(EnsuredBranch {
                    reused: false,
                    branch: born(&handle, journaled_rx).await?,
                });
            };
            // Whoever asks for another branch does not wait for this one's removal.
            drop(adding);
            if handle.view_rx.borrow().phase == BranchPhase::Deleting {
                gone(handle.view_rx).await;
                continue;
            }
            let (reply, answer_rx) = oneshot::channel();
            let asked = Request::Ensure {
                spec: Box::new(spec.clone()),
                ttl: request.ttl,
                holder: request.holder.clone(),
                reply,
            };
            if let Some(answer) = ask(&handle.requests_tx, asked, answer_rx).await {
                return answer;
            }
        }
        Err(Problem::new(
            ProblemKind::Conflict,
            format!("the branch {} is being deleted", request.id),
        ))
    }

    async fn add(
        &self,
        request: &EnsureBranch,
        name: &BranchName,
        spec: Spec,
    ) -> Result<(Handle, Journaled), Problem> {
        let max = self.shared.machine.limits.branches_max;
        let count = self.count();
        if u32::try_from(count).unwrap_or(u32::MAX) >= max {
            let detail = format!("there are {count} branches, and this engine holds at most {max}");
            return Err(Problem::new(ProblemKind::LimitPassed, detail).with_hint(
                "destroy branches that nobody needs: `bough db-branches -A status` shows them",
            ));
        }
        let created_at = self.shared.machine.clock.now();
        let door = open_door(&self.shared.machine, name, created_at, &spec.url()).await?;
        let mut hold = Hold::new(request.ttl);
        if let Some(holder) = &request.holder {
            hold.join(holder, self.shared.machine.clock.now())
                .expect("nobody holds it yet");
        }
        let record = BranchRecord {
            name: name.clone(),
            id: request.id.clone(),
            namespace: request.namespace.clone(),
            spec,
            state: State::AwaitingSnapshot,
            hold,
            clone: None,
            port: door.port(),
            created_at,
            ready_at: None,
            application_access: ApplicationAccess::Unsure,
            origin: None,
            boot_id: Some(self.shared.machine.boot_id.clone()),
            unsynced_on: self.shared.machine.volume_mount,
        };
        let (newborn, journaled_rx) = Newborn::unwritten();
        Ok((self.start(record, newborn, door), journaled_rx))
    }

    fn check_ttl(&self, ttl: Ttl) -> Result<(), Problem> {
        let max = self.shared.machine.limits.ttl_max_seconds;
        if ttl.0 == 0 {
            let detail = "a TTL of 0 would delete the branch at once";
            let problem = Problem::new(ProblemKind::BadRequest, detail);
            return Err(problem.with_hint("ask for a second at least, or destroy the branch"));
        }
        if ttl <= max {
            return Ok(());
        }
        let detail = format!("a TTL of {ttl} is above this engine's maximum of {max}");
        let hint = format!(
            "ask for at most {} seconds, or have the maximum raised by who looks after the engine: `ttl_max_seconds` in its \
             engine.toml, in a cluster `ttlSecondsMax`, which a branch host takes up with its next pod",
            max.0
        );
        Err(Problem::new(ProblemKind::LimitPassed, detail).with_hint(hint))
    }

    /// How many branches there are.
    pub fn count(&self) -> usize {
        lock(&self.handles).len()
    }

    /// The branches of one namespace, or all. Blocks: it measures what they take of the disk.
    pub fn list(&self, namespace: Option<&Namespace>) -> Vec<BranchView> {
        let handles: Vec<Handle> = lock(&self.handles).values().cloned().collect();
        let views = handles.iter().map(|handle| self.with_measures(handle));
        let mut views: Vec<BranchView> = views
            .filter(|view| namespace.is_none_or(|wanted| view.namespace == *wanted))
            .collect();
        views.sort_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
        views
    }

    /// One branch. Blocks, as [`Registry::list`].
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound`.
    pub fn get(&self, name: &BranchName) -> Result<BranchView, Problem> {
        Ok(self.with_measures(&self.handle(name)?))
    }

    /// The view with what is measured when it is asked for.
    fn with_measures(&self, handle: &Handle) -> BranchView {
        let mut view = handle.view_rx.borrow().clone();
        view.connections = handle.counts.active();
        view.connections_total = handle.counts.total();
        // Not borrowed while files are counted: whoever publishes would wait, and with him the whole engine.
        let clone = handle.clone_rx.borrow().clone();
        if let Some(clone) = clone {
            let machine = &self.shared.machine;
            let data = machine.layout.clone_dir(&clone).join("data");
            let usage = machine.usages.of(&data, machine.clock.now());
            view.disk_bytes = Some(usage.own);
            view.shared_bytes = Some(usage.shared);
        }
        view
    }

    /// Every change of one branch from now on; the channel closes when the branch is gone.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound`.
    pub fn watch(&self, name: &BranchName) -> Result<watch::Receiver<BranchView>, Problem> {
        Ok(self.handle(name)?.view_rx)
    }

    /// How to connect to a ready branch, password included; where doors are guarded with what lets `session` in while it
    /// holds the branch, or a command for a while.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound`, or `Conflict` where it is not ready.
    pub async fn connection(
        &self,
        name: &BranchName,
        session: Option<SessionId>,
    ) -> Result<BranchConnection, Problem> {
        self.ask(name, |reply| Request::Connection { session, reply })
            .await?
    }

    /// Gives a branch fresh data under the same address.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound` or `Conflict`.
    pub async fn reset(&self, name: &BranchName) -> Result<BranchView, Problem> {
        self.ask(name, |reply| Request::Reset { reply }).await?
    }

    /// Gives a branch a new TTL.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound` or `LimitPassed`.
    pub async fn extend(&self, name: &BranchName, ttl: Ttl) -> Result<BranchView, Problem> {
        self.check_ttl(ttl)?;
        self.ask(name, |reply| Request::Extend { ttl, reply })
            .await?
    }

    /// Deletes a branch; ends when nothing is left of it.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound`.
    pub async fn delete(&self, name: &BranchName) -> Result<(), Problem> {
        let view_rx = self.handle(name)?.view_rx;
        self.ask(name, |reply| Request::Delete { reply }).await?;
        gone(view_rx).await;
        Ok(())
    }

    /// A session joins its branches, or says that it lives.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound` when one of the branches is gone.
    pub async fn join(
        &self,
        id: &SessionId,
        join: &JoinSession,
    ) -> Result<Vec<BranchView>, Problem> {
        let holder = holder_of(id, join)?;
        let mut views = Vec::new();
        for name in &join.branches {
            let holder = holder.clone();
            let request = |reply| Request::Join { holder, reply };
            views.push(self.ask(name, request).await??);
        }
        Ok(views)
    }

    /// A session leaves every branch that it holds; answers with them.
    pub async fn leave(&self, id: &SessionId) -> Vec<BranchView> {
        let asked = |reply| Request::Leave {
            id: id.clone(),
            reply,
        };
        let left = self.ask_all(asked).await;
        left.into_iter().flatten().collect()
    }

    /// Stops a session; answers with the branches that it holds. What it asks from now on is refused.
    ///
    /// # Errors
    /// [`Problem`] of kind `NotFound` when it holds none, `BadRequest` for more words than a session has, `Internal` when
    /// the journal does not take it: then it may go on with the next engine.
    pub async fn stop(&self, id: &SessionId, by: &str) -> Result<Vec<BranchView>, Problem> {
        check_said("stopper", by)?;
        let asked = |reply| Request::Stop {
            id: id.clone(),
            by: by.to_owned(),
            reply,
        };
        let answers = self.ask_all(asked).await;
        let held: Result<Vec<Option<BranchView>>, Problem> = answers.into_iter().collect();
        let held: Vec<BranchView> = held?.into_iter().flatten().collect();
        if held.is_empty() {
            let detail = format!("no session {id} holds a branch");
            return Err(Problem::new(ProblemKind::NotFound, detail));
        }
        Ok(held)
    }

    /// Every session, once each.
    pub fn sessions(&self) -> Vec<SessionView> {
        let views = lock(&self.handles)
            .values()
            .map(|handle| handle.view_rx.borrow().sessions.clone())
            .collect::<Vec<_>>();
        let by_id: BTreeMap<SessionId, SessionView> = views
            .into_iter()
            .flatten()
            .map(|session| (session.id.clone(), session))
            .collect();
        by_id.into_values().collect()
    }

    /// Stops every server cleanly, or ends it; the branches stay, and none comes from here on. Takes 85 s at most.
    pub async fn stop_servers(&self) {
        *self.adding.lock().await = Adding::Over;
        let stopping = self.ask_all(|reply| Request::StopServer { reply });
        let stopped = tokio::time::timeout(SERVERS_STOP_TIME_MAX, stopping).await;
        if stopped.is_err() {
            tracing::error!("a branch does not hear that it is to stop");
        }
    }

    /// Asks every branch at the same time, and gives the answers of those that did not go meanwhile: one that is busy holds
    /// up nobody but who waits for it.
    async fn ask_all<T>(&self, request: impl Fn(oneshot::Sender<T>) -> Request) -> Vec<T> {
        let handles: Vec<Handle> = lock(&self.handles).values().cloned().collect();
        let answers = handles.into_iter().map(|handle| {
            let (reply, answer_rx) = oneshot::channel();
            let request = request(reply);
            async move { ask(&handle.requests_tx, request, answer_rx).await }
        });
        let answers = futures_util::future::join_all(answers).await;
        answers.into_iter().flatten().collect()
    }

    async fn ask<T>(
        &self,
        name: &BranchName,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Problem> {
        let handle = self.handle(name)?;
        let (reply, answer_rx) = oneshot::channel();
        let answer = ask(&handle.requests_tx, request(reply), answer_rx).await;
        answer.ok_or_else(|| {
            Problem::new(ProblemKind::NotFound, format!("the branch {name} is gone"))
        })
    }
}

/// What is told of a new branch, once the journal has it.
async fn born(handle: &Handle, journaled_rx: Journaled) -> Result<BranchView, Problem> {
    match journaled_rx.await {
        Ok(entered) => entered?,
        Err(_) => return Err(Problem::new(ProblemKind::Internal, "the engine is ending")),
    }
    Ok(handle.view_rx.borrow().clone())
}

/// Sends a request and waits for its answer; none when the driver has ended.
async fn ask<T>(
    requests_tx: &mpsc::Sender<Request>,
    request: Request,
    answer_rx: oneshot::Receiver<T>,
) -> Option<T> {
    requests_tx.send(request).await.ok()?;
    answer_rx.await.ok()
}

/// The session that joins.
fn holder_of(id: &SessionId, join: &JoinSession) -> Result<Holder, Problem> {
    if join.branches.len() > SESSION_BRANCHES_MAX {
        let detail = format!(
            "a session holds at most {SESSION_BRANCHES_MAX} branches, not {}",
            join.branches.len()
        );
        return Err(Problem::new(ProblemKind::BadRequest, detail));
    }
    let holder = join.holder(id);
    check_holder(&holder)?;
    Ok(holder)
}

/// What a session says of itself is journaled with every branch that it holds.
fn check_holder(holder: &Holder) -> Result<(), Problem> {
    let said = [("owner", &holder.owner), ("program", &holder.program)];
    said.iter()
        .try_for_each(|(what, text)| check_said(what, text))
}

fn check_said(what: &str, text: &str) -> Result<(), Problem> {
    if text.len() <= SESSION_BYTES_MAX {
        return Ok(());
    }
    let detail = format!(
        "the session's {what} is {} bytes long, and {SESSION_BYTES_MAX} are allowed",
        text.len()
    );
    Err(Problem::new(ProblemKind::BadRequest, detail))
}

/// Ends when the branch is gone: its driver drops the view's channel.
async fn gone(mut view_rx: watch::Receiver<BranchView>) {
    while view_rx.changed().await.is_ok() {}
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The connection string that a request means.
    fn source_url(&self, source: &SourceRef) -> Result<Secret, Problem> {
        match source {
            SourceRef::Url(url) => Ok(url.clone()),
            SourceRef::Name(name) => self.sources.url(name),
        }
    }
}
