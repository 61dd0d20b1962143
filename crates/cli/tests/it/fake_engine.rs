//! An engine that a test plays: the API's paths on a real socket, answers as the test set them.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::stream;
use model::engine_api::*;
use model::{BranchName, ByteSize, PgMajor, Secret, Ttl};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};

use crate::samples;

/// What becomes of the next branch that is asked for.
pub(crate) enum Plan {
    /// It goes through these phases at once; the last one stays.
    Phases(Vec<BranchPhase>),
    /// It is refused.
    Refused(Problem),
    /// It fails with this message.
    Failed(&'static str),
}

/// Everything the played engine knows, for a test to look at and to change.
pub(crate) struct Script {
    pub(crate) view: EngineView,
    pub(crate) branches: BTreeMap<BranchName, watch::Sender<BranchView>>,
    pub(crate) sources: BTreeMap<SourceName, SourceView>,
    /// For `ensure` and `reset`, first come first served; none left: ready at once.
    pub(crate) plans: VecDeque<Plan>,
    /// The URL that `connection` answers with.
    pub(crate) url: String,
    /// Method, path and body of every request that changes something.
    pub(crate) requests: Vec<(String, Value)>,
    /// The progress that copying branches show.
    pub(crate) progress: Option<CopyProgress>,
    /// Sessions that joined and did not leave.
    pub(crate) sessions: Vec<SessionId>,
}

impl Script {
    /// Adds a branch as it stands.
    pub(crate) fn add(&mut self, branch: BranchView) {
        let name = branch.name.clone();
        self.branches.insert(name, watch::Sender::new(branch));
    }

    fn refuse_unknown(&self, name: &BranchName) -> Refusal {
        Refusal(Problem::new(
            ProblemKind::NotFound,
            format!("no branch {name}"),
        ))
    }

    fn follow_plan(&mut self, branch: BranchView) -> Result<BranchView, Refusal> {
        let phases = match self.plans.pop_front() {
            None => vec![BranchPhase::Ready],
            Some(Plan::Phases(phases)) => phases,
            Some(Plan::Refused(problem)) => return Err(Refusal(problem)),
            Some(Plan::Failed(message)) => {
                let failed = BranchView {
                    phase: BranchPhase::Failed,
                    message: Some(message.to_owned()),
                    hint: Some("look at the source".to_owned()),
                    ..branch
                };
                let first = BranchView {
                    phase: BranchPhase::Copying,
                    ..failed.clone()
                };
                self.publish(first.clone(), vec![failed]);
                return Ok(first);
            }
        };
        let mut views = phases.into_iter().map(|phase| BranchView {
            phase,
            progress: self
                .progress
                .clone()
                .filter(|_| phase == BranchPhase::Copying),
            ..branch.clone()
        });
        let first = views.next().unwrap();
        let later = views.collect();
        self.publish(first.clone(), later);
        Ok(first)
    }

    /// The branch is `first`, and each of `later` as soon as somebody watches.
    fn publish(&mut self, first: BranchView, later: Vec<BranchView>) {
        let sender = watch::Sender::new(first.clone());
        self.branches.insert(first.name, sender.clone());
        tokio::spawn(async move {
            for view in later {
                sender.send_replace(view);
                tokio::task::yield_now().await;
            }
        });
    }
}

/// The played engine; it ends when dropped.
pub(crate) struct FakeEngine {
    script: Arc<Mutex<Script>>,
    end: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl FakeEngine {
    /// Answers on the socket of this data directory before this returns.
    pub(crate) fn start(data_dir: &Path) -> Self {
        let socket = data_dir.join("engine.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let script = Arc::new(Mutex::new(Script {
            view: view(data_dir),
            branches: BTreeMap::new(),
            sources: BTreeMap::new(),
            plans: VecDeque::new(),
            url: "postgres://app:hunter2@127.0.0.1:40001/inventory".to_owned(),
            requests: Vec::new(),
            progress: None,
            sessions: Vec::new(),
        }));
        let end = Arc::new(Notify::new());
        let served = App {
            script: Arc::clone(&script),
            end: Arc::clone(&end),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let end = Arc::clone(&served.end);
                let listener = UnixListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router(served)) => served.unwrap(),
                    () = end.notified() => {}
                }
            });
            let _ = std::fs::remove_file(&socket);
        });
        Self {
            script,
            end,
            thread: Some(thread),
        }
    }

    /// What the engine knows.
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Method and path of every request that changed something.
    pub(crate) fn requests(&self) -> Vec<String> {
        let script = self.script();
        let lines = script.requests.iter().map(|(line, _)| line.clone());
        lines.collect()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.end.notify_one();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn view(data_dir: &Path) -> EngineView {
    EngineView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // No process has it (PID_MAX_LIMIT is 4,194,304).
        pid: 2_000_000_000,
        started_at: samples::start(),
        data_dir: data_dir.display().to_string(),
        server_account: Some("bough".to_owned()),
        volume: VolumeView {
            kind: model::VolumeKind::Overlay,
            description: "branches of any size at once; mounted by the engine".to_owned(),
            passed_over: Vec::new(),
            backing: Some(BackingView {
                path: "/var/lib/bough-volumes/bough.img".to_owned(),
                free_bytes: ByteSize(70_000_000_000),
            }),
            filesystem: "xfs".to_owned(),
            free_bytes: ByteSize(50_000_000_000),
            floor_bytes: ByteSize(268_435_456),
        },
        installations: vec![InstallationView {
            major: PgMajor(16),
            version: Some("16.4".to_owned()),
            bin: "/usr/lib/postgresql/16/bin".to_owned(),
            server: true,
            pg_dump: true,
            psql: true,
        }],
        ttl_max_seconds: Ttl(900),
        branches: 1,
        branches_max: 100,
        bases: 1,
        superseded_bases: 0,
        superseded_bytes: ByteSize(0),
        warm_clones: 0,
        followers: 0,
        egress_open: None,
        slots_left: Vec::new(),
    }
}

#[derive(Clone)]
struct App {
    script: Arc<Mutex<Script>>,
    end: Arc<Notify>,
}

struct Refusal(Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap();
        let content = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, content, Json(self.0)).into_response()
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/v1/engine", get(show_engine))
        .route("/v1/engine/stop", post(stop_engine))
        .route("/v1/sources", get(list_sources))
        .route("/v1/sources/{name}", put(add_source).delete(remove_source))
        .route("/v1/branches", get(list_branches).post(ensure_branch))
        .route("/v1/branches/{name}", axum::routing::delete(delete_branch))
        .route("/v1/branches/{name}/watch", get(watch_branch))
        .route("/v1/branches/{name}/connection", get(show_connection))
        .route("/v1/branches/{name}/reset", post(reset_branch))
        .route("/v1/branches/{name}/extend", post(extend_branch))
        .route("/v1/sessions/{id}", put(join_session).delete(leave_session))
        .route("/v1/sessions/{id}/stop", post(stop_session))
        .layer(middleware::from_fn_with_state(app.clone(), record))
        .with_state(app)
}

/// Keeps every request that changes something.
async fn record(
    State(app): State<App>,
    method: Method,
    uri: Uri,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    if method != Method::GET {
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let line = format!("{method} {uri}");
        app.script.lock().unwrap().requests.push((line, body));
    }
    let request = axum::extract::Request::from_parts(parts, Body::from(bytes));
    next.run(request).await
}

async fn show_engine(State(app): State<App>) -> Json<EngineView> {
    Json(app.script.lock().unwrap().view.clone())
}

async fn stop_engine(State(app): State<App>) -> StatusCode {
    app.end.notify_one();
    StatusCode::ACCEPTED
}

async fn list_sources(State(app): State<App>) -> Json<Vec<SourceView>> {
    let script = app.script.lock().unwrap();
    Json(script.sources.values().cloned().collect())
}

async fn add_source(
    State(app): State<App>,
    UrlPath(name): UrlPath<SourceName>,
    Json(source): Json<AddSource>,
) -> Json<SourceView> {
    let url = model::PgUrl::parse(source.url.reveal()).unwrap();
    let view = SourceView {
        name: name.clone(),
        url: url.redacted(),
        database: url.database().unwrap(),
        user: url.user().unwrap(),
        version: PgMajor(16),
        system_identifier: "7400000000000000001".to_owned(),
        addresses: source.care.addresses,
        prepare_sha256: None,
        warm: source.care.warm,
        refresh_seconds: source.care.refresh_seconds,
        rate_bytes_max: source.care.rate_bytes_max,
        slot: source.care.slot,
        copied_at: None,
        looked_at: None,
        failure: None,
        base: None,
        progress: None,
        added_at: samples::start(),
    };
    app.script
        .lock()
        .unwrap()
        .sources
        .insert(name, view.clone());
    Json(view)
}

async fn remove_source(
    State(app): State<App>,
    UrlPath(name): UrlPath<SourceName>,
) -> Result<StatusCode, Refusal> {
    match app.script.lock().unwrap().sources.remove(&name) {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(Refusal(Problem::new(
            ProblemKind::NotFound,
            format!("no source {name}"),
        ))),
    }
}

async fn list_branches(
    State(app): State<App>,
    Query(filter): Query<BTreeMap<String, String>>,
) -> Json<Vec<BranchView>> {
    let script = app.script.lock().unwrap();
    let wanted = filter.get("namespace");
    let views = script
        .branches
        .values()
        .map(|sender| sender.borrow().clone());
    let is_wanted =
        |view: &BranchView| wanted.is_none_or(|namespace| view.namespace.as_str() == namespace);
    Json(views.filter(is_wanted).collect())
}

async fn ensure_branch(
    State(app): State<App>,
    Json(wanted): Json<EnsureBranch>,
) -> Result<(StatusCode, Json<EnsuredBranch>), Refusal> {
    let mut script = app.script.lock().unwrap();
    let name = BranchName::of(&wanted.namespace, &wanted.id);
    if let Some(holder) = &wanted.holder
        && !script.sessions.contains(&holder.id)
    {
        script.sessions.push(holder.id.clone());
    }
    if let Some(sender) = script.branches.get(&name) {
        let branch = sender.borrow().clone();
        return Ok((
            StatusCode::OK,
            Json(EnsuredBranch {
                reused: true,
                branch,
            }),
        ));
    }
    let mut branch = samples::branch(wanted.namespace.as_str(), wanted.id.as_str());
    branch.ttl_seconds = wanted.ttl;
    branch.spec.copy = wanted.copy;
    let branch = script.follow_plan(branch)?;
    Ok((
        StatusCode::CREATED,
        Json(EnsuredBranch {
            reused: false,
            branch,
        }),
    ))
}

async fn watch_branch(
    State(app): State<App>,
    UrlPath(name): UrlPath<BranchName>,
) -> Result<Response, Refusal> {
    let script = app.script.lock().unwrap();
    let sender = script.branches.get(&name);
    let mut view_rx = sender
        .ok_or_else(|| script.refuse_unknown(&name))?
        .subscribe();
    view_rx.mark_changed();
    let lines = stream::unfold(view_rx, async |mut view_rx| {
        view_rx.changed().await.ok()?;
        let mut line = serde_json::to_vec(&*view_rx.borrow_and_update()).unwrap();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), view_rx))
    });
    let content = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content, Body::from_stream(lines)).into_response())
}

async fn show_connection(
    State(app): State<App>,
    UrlPath(name): UrlPath<BranchName>,
) -> Result<Json<BranchConnection>, Refusal> {
    let script = app.script.lock().unwrap();
    let sender = script.branches.get(&name);
    let branch = sender
        .ok_or_else(|| script.refuse_unknown(&name))?
        .borrow()
        .clone();
    let url = model::PgUrl::parse(&script.url).unwrap();
    Ok(Json(BranchConnection {
        host: url.address().host,
        port: url.address().port,
        database: url.database().unwrap(),
        user: url.user().unwrap(),
        url: Secret::new(url.reveal()),
        identity: branch.identity.expect("the sample is cloned"),
        pass: None,
        source_addresses: Vec::new(),
    }))
}

async fn reset_branch(
    State(app): State<App>,
    UrlPath(name): UrlPath<BranchName>,
) -> Result<(StatusCode, Json<BranchView>), Refusal> {
    let mut script = app.script.lock().unwrap();
    let sender = script.branches.get(&name);
    let branch = sender
        .ok_or_else(|| script.refuse_unknown(&name))?
        .borrow()
        .clone();
    Ok((StatusCode::ACCEPTED, Json(script.follow_plan(branch)?)))
}

async fn extend_branch(
    State(app): State<App>,
    UrlPath(name): UrlPath<BranchName>,
    Json(extend): Json<ExtendBranch>,
) -> Result<Json<BranchView>, Refusal> {
    let script = app.script.lock().unwrap();
    if extend.ttl > script.view.ttl_max_seconds {
        let detail = format!(
            "a TTL of {} is above the maximum of {}",
            extend.ttl,
            Ttl(900)
        );
        return Err(Refusal(Problem::new(ProblemKind::LimitPassed, detail)));
    }
    let sender = script.branches.get(&name);
    let sender = sender.ok_or_else(|| script.refuse_unknown(&name))?;
    sender.send_modify(|branch| branch.ttl_seconds = extend.ttl);
    Ok(Json(sender.borrow().clone()))
}

async fn delete_branch(
    State(app): State<App>,
    UrlPath(name): UrlPath<BranchName>,
) -> Result<StatusCode, Refusal> {
    let mut script = app.script.lock().unwrap();
    match script.branches.remove(&name) {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(script.refuse_unknown(&name)),
    }
}

async fn join_session(
    State(app): State<App>,
    UrlPath(id): UrlPath<SessionId>,
    Json(join): Json<JoinSession>,
) -> Result<Json<Vec<BranchView>>, Refusal> {
    let mut script = app.script.lock().unwrap();
    for name in &join.branches {
        if !script.branches.contains_key(name) {
            return Err(script.refuse_unknown(name));
        }
    }
    if !script.sessions.contains(&id) {
        script.sessions.push(id);
    }
    let views = join
        .branches
        .iter()
        .map(|name| script.branches[name].borrow().clone());
    Ok(Json(views.collect()))
}

async fn leave_session(
    State(app): State<App>,
    UrlPath(id): UrlPath<SessionId>,
) -> Json<Vec<BranchView>> {
    let mut script = app.script.lock().unwrap();
    script.sessions.retain(|session| *session != id);
    let views = script
        .branches
        .values()
        .map(|sender| sender.borrow().clone());
    Json(views.collect())
}

/// Ends it at once, as one whose program heeds the word.
async fn stop_session(
    State(app): State<App>,
    UrlPath(id): UrlPath<SessionId>,
    Json(_): Json<StopSession>,
) -> Json<Vec<BranchView>> {
    let script = app.script.lock().unwrap();
    let views = script.branches.values().map(|sender| {
        sender.send_modify(|view| view.sessions.retain(|session| session.id != id));
        sender.borrow().clone()
    });
    Json(views.collect())
}
