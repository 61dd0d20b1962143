//! A cluster that a test plays: an API server that keeps its objects as the real one does, kubelets that have every pod
//! ready at once, and an engine in each host's pod. It answers on loopback, since `exec` takes a connection over.
//!
//! Whoever asks it can be cut off: from a request on, nobody is answered any more, though that request was done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use kube::{Client, Config};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::websocket;

/// What is listed.
const COLLECTIONS: [&str; 4] = ["branches", "sources", "statefulsets", "sessions"];

/// What the cluster is.
#[derive(Debug, Default, Clone)]
pub(super) struct World {
    /// Every object, by its path in the API server.
    pub(super) objects: BTreeMap<String, Value>,
    /// What each host's engine has, by its pod: branches' ids, and sources' names.
    pub(super) engines: BTreeMap<String, Engine>,
    /// What engines and agents were asked that changes something there, with who was asked.
    pub(super) asked: Vec<String>,
    written: u64,
    /// Requests that were sent before it was made another one are not for it.
    epoch: u64,
}

/// What an engine has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Engine {
    pub(super) branches: BTreeSet<String>,
    pub(super) sources: BTreeSet<String>,
}

/// A cluster that is there until this is dropped.
pub(super) struct PlayedCluster {
    world: Arc<Mutex<World>>,
    port: u16,
    /// How many requests were done.
    done: Arc<watch::Sender<usize>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for PlayedCluster {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What a request asks for.
struct Request {
    method: String,
    path: String,
    query: String,
    /// Of a WebSocket.
    key: Option<String>,
    body: Value,
}

impl PlayedCluster {
    /// With these objects, by their paths; `check` sees the world after every request.
    pub(super) async fn begin(objects: &[(&str, Value)], check: fn(&World)) -> Self {
        let mut world = World::default();
        for (path, object) in objects {
            world.put(path, object.clone());
        }
        let world = Arc::new(Mutex::new(world));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let done = Arc::new(watch::channel(0).0);
        let shared = (Arc::clone(&world), Arc::clone(&done));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (world, done) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                connections.spawn(async move {
                    // Who goes away has had his answer, or wants none.
                    let _gone = serve(stream, &world, &done, check).await;
                });
            }
        });
        Self {
            world,
            port,
            done,
            serving,
        }
    }

    /// What the cluster is now.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic")
    }

    /// How many requests it has done.
    pub(super) fn done(&self) -> usize {
        *self.done.borrow()
    }

    /// Makes it another one; what anybody has asked before is never done.
    pub(super) fn reset(&self, world: &World) {
        let mut there = self.world();
        let epoch = there.epoch + 1;
        *there = world.clone();
        there.epoch = epoch;
    }

    /// A client of it.
    pub(super) fn client(&self) -> Client {
        let uri = format!("http://127.0.0.1:{}", self.port);
        let config = Config::new(uri.parse().expect("an address"));
        Client::try_from(config).expect("a client")
    }

    /// Has `work` done until it ends, or until the cluster has done `requests` from now on: it is dropped before it sees the last
    /// one's answer. Whether it ended.
    pub(super) async fn cut_after(&self, requests: usize, work: impl Future<Output = ()>) -> bool {
        let mut done = self.done.subscribe();
        let until = *done.borrow_and_update() + requests;
        tokio::select! {
            // The one that was done is never seen to be.
            biased;
            _ = done.wait_for(|done| *done >= until) => false,
            () = work => true,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    world: &Mutex<World>,
    done: &watch::Sender<usize>,
    check: fn(&World),
) -> std::io::Result<()> {
    let epoch = world.lock().expect("no panic").epoch;
    let request = read(&mut stream).await?;
    let answer = {
        let mut world = world.lock().expect("no panic");
        if world.epoch != epoch {
            return Ok(());
        }
        let answer = match &request.key {
            Some(key) => {
                let (said, is_success) = world.run(&request);
                websocket::answer(key, &said, is_success)
            }
            None => {
                let (code, object) = world.answer(&request);
                plain(code, &object)
            }
        };
        check(&world);
        answer
    };
    done.send_modify(|done| *done += 1);
    // Whoever is cut off there has gone before he is answered.
    tokio::task::yield_now().await;
    stream.write_all(&answer).await?;
    // What the other side says of the end it says before it goes.
    let mut rest = [0; 256];
    while request.key.is_some() && stream.read(&mut rest).await? > 0 {}
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> std::io::Result<Request> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut lines = head.lines();
    let mut words = lines.next().expect("a request").split(' ');
    let method = words.next().expect("a method").to_owned();
    let (path, query) = {
        let target = words.next().expect("a target");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (path.to_owned(), query.to_owned())
    };
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").map_or(0, |it| it.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Request {
        method,
        path,
        query,
        key: header("sec-websocket-key"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn plain(code: u16, object: &Value) -> Vec<u8> {
    let body = object.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} Said\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    (head + &body).into_bytes()
}

fn refused(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": reason, "reason": reason,
    });
    (code, status)
}

impl World {
    fn answer(&mut self, request: &Request) -> (u16, Value) {
        let path = request.path.as_str();
        let kind = path.rsplit('/').next().unwrap_or_default();
        match request.method.as_str() {
            "GET" => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None if COLLECTIONS.contains(&kind) => {
                    (200, json!({"items": self.list(path, &request.query)}))
                }
                None => refused(404, "NotFound"),
            },
            "POST" if kind == "selfsubjectaccessreviews" => {
                let mut review = request.body.clone();
                review["status"] = json!({"allowed": true});
                (201, review)
            }
            // Nobody looks at those.
            "POST" if kind == "events" => (201, request.body.clone()),
            "POST" => {
                let name = request.body["metadata"]["name"].as_str().expect("a name");
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return refused(409, "AlreadyExists");
                }
                self.put(&path, request.body.clone());
                (201, self.objects[&path].clone())
            }
            "PATCH" => self.patch(path, &request.body),
            "DELETE" => self.delete(path, &request.body),
            other => panic!("{other} {path}"),
        }
    }

    /// Those of a collection, which are of one namespace or of all.
    fn list(&self, path: &str, query: &str) -> Vec<Value> {
        let wanted = percent_decode_str(query).decode_utf8_lossy().into_owned();
        let mut pairs = wanted.split('&').filter_map(|it| it.split_once('='));
        let label = pairs.find(|(name, _)| *name == "labelSelector");
        let of_collection = self.objects.iter().filter(|(at, _)| {
            let own = at.strip_prefix(path).and_then(|it| it.strip_prefix('/'));
            own.is_some_and(|it| !it.contains('/'))
        });
        let labelled = of_collection.filter(|(_, object)| {
            label.is_none_or(|(_, label)| object["metadata"]["labels"].get(label).is_some())
        });
        labelled.map(|(_, object)| object.clone()).collect()
    }

    /// Writes an object, new or not, and has the kubelets do what follows from it.
    pub(super) fn put(&mut self, path: &str, mut object: Value) {
        self.written += 1;
        let uid = json!(format!("uid-of-{path}"));
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = uid;
            metadata["generation"] = json!(1);
        }
        metadata["resourceVersion"] = json!(self.written.to_string());
        let is_left = !metadata["deletionTimestamp"].is_null()
            && metadata["finalizers"].as_array().is_none_or(Vec::is_empty);
        if is_left {
            self.objects.remove(path);
        } else {
            self.objects.insert(path.to_owned(), object);
        }
        self.have_pods();
    }

    fn patch(&mut self, path: &str, patch: &Value) -> (u16, Value) {
        let of = ["/status", "/ephemeralcontainers"]
            .iter()
            .find_map(|sub| Some((path.strip_suffix(sub)?, *sub)));
        let (path, sub) = of.unwrap_or((path, ""));
        let Some(before) = self.objects.get(path).cloned() else {
            return refused(404, "NotFound");
        };
        for field in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != before["metadata"][field] {
                return refused(409, "Conflict");
            }
        }
        let mut after = before.clone();
        match sub {
            "/status" => merge(&mut after["status"], &patch["status"]),
            "/ephemeralcontainers" => place(&mut after, &patch["spec"]["ephemeralContainers"][0]),
            _ => {
                let mut patch = patch.clone();
                patch.as_object_mut().expect("an object").remove("status");
                merge(&mut after, &patch);
            }
        }
        self.put(path, after.clone());
        (200, self.objects.get(path).cloned().unwrap_or(after))
    }

    pub(super) fn delete(&mut self, path: &str, options: &Value) -> (u16, Value) {
        let Some(mut object) = self.objects.get(path).cloned() else {
            return refused(404, "NotFound");
        };
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return refused(409, "Conflict");
            }
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-02T12:00:00Z");
            self.put(path, object.clone());
        }
        (200, object)
    }

    /// Every host has its pods, with their volumes and engines, and no other pod has.
    fn have_pods(&mut self) {
        let mut wanted = BTreeMap::new();
        let sets = self.objects.iter();
        let sets = sets.filter(|(path, _)| path.contains("/statefulsets/"));
        for (path, set) in sets {
            let name = path.rsplit('/').next().expect("a name");
            let hosts = set["spec"]["replicas"].as_u64().unwrap_or(1);
            let spec = &set["spec"]["template"]["spec"];
            wanted.extend((0..hosts).map(|it| (format!("{name}-{it}"), spec.clone())));
        }
        let pods = "/api/v1/namespaces/shop/pods";
        self.engines.retain(|pod, _| wanted.contains_key(pod));
        self.objects.retain(|path, _| {
            let of_host = path.strip_prefix(pods).map(|it| &it[1..]);
            of_host.is_none_or(|pod| !pod.starts_with("bough-") || wanted.contains_key(pod))
        });
        for (pod, spec) in wanted {
            self.engines.entry(pod.clone()).or_default();
            let status =
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
            let metadata = json!({"name": pod, "namespace": "shop", "uid": pod});
            let object = json!({"metadata": metadata, "spec": spec, "status": status});
            self.objects.insert(format!("{pods}/{pod}"), object);
            let claim = format!("/api/v1/namespaces/shop/persistentvolumeclaims/data-{pod}");
            let metadata =
                json!({"name": format!("data-{pod}"), "uid": format!("volume-of-{pod}")});
            self.objects.insert(claim, json!({"metadata": metadata}));
        }
    }

    /// What a program in a pod says, and whether it ends well.
    fn run(&mut self, request: &Request) -> (String, bool) {
        let words = request.query.split('&');
        let words = words.filter_map(|it| it.strip_prefix("command="));
        let words: Vec<_> = words
            .map(|it| percent_decode_str(it).decode_utf8_lossy())
            .collect();
        let mut parts = request.path.rsplit('/').skip(1);
        let pod = parts.next().expect("a pod").to_owned();
        let has = |word: &str| words.iter().any(|it| it == word);
        if has("invite") {
            self.asked.push(format!("invite {pod}"));
            return ("0aff\n".to_owned(), true);
        }
        let Some(engine) = self.engines.get_mut(&pod) else {
            return (String::new(), false);
        };
        let last = words.last().expect("words").to_string();
        if has("destroy") {
            self.asked.push(format!("destroy {last} {pod}"));
            return (String::new(), engine.branches.remove(&last));
        }
        if has("rm") {
            self.asked.push(format!("rm {last} {pod}"));
            return (String::new(), engine.sources.remove(&last));
        }
        if has("add") {
            let at = words.iter().position(|it| *it == "--name");
            let name = words[at.expect("a name") + 1].to_string();
            engine.sources.insert(name.clone());
            let said = json!([source(&name)]).to_string();
            self.asked.push(format!("add {name} {pod}"));
            return (said, true);
        }
        let all: Vec<Value> = if has("source") {
            engine.sources.iter().map(|it| source(it)).collect()
        } else {
            engine.branches.iter().map(|it| branch(it)).collect()
        };
        (json!(all).to_string(), true)
    }
}

/// An agent stands beside the target, and runs at once; one that is there the real API server refuses to change.
fn place(pod: &mut Value, container: &Value) {
    let name = container["name"].clone();
    for (at, new) in [
        ("/spec/ephemeralContainers", container.clone()),
        (
            "/status/ephemeralContainerStatuses",
            json!({
                "name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }),
        ),
    ] {
        let list = pod.pointer_mut(at).expect("a list").as_array_mut();
        list.expect("a list").push(new);
    }
}

/// As a merge patch changes an object (<https://www.rfc-editor.org/rfc/rfc7386>).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, new) in fields {
        if new.is_null() {
            into.as_object_mut().expect("an object").remove(name);
        } else {
            merge(&mut into[name.as_str()], new);
        }
    }
}

fn branch(id: &str) -> Value {
    json!({
        "name": "pg-0123456789abcdef", "id": id, "namespace": "shop", "phase": "ready",
        "spec": {
            "source": "db:5432", "database": "d", "user": "u", "copy": {"mode": "all"},
            "version": 16, "connection_settings": {},
        },
        "ttl_seconds": 300, "created_at": "2026-01-02T11:59:00Z", "ready_at": null,
        "expires_at": null, "sessions": [], "endpoint": "127.0.0.1:20432",
        "asleep": false, "identity": null, "version": 16, "base": null, "progress": null,
        "connections": 0, "connections_total": 0, "disk_bytes": 4096, "shared_bytes": 1048576, "message": null,
        "hint": null, "generation": 3,
    })
}

fn source(name: &str) -> Value {
    json!({
        "name": name, "url": "postgres://db/d", "database": "d", "user": "u", "version": 16,
        "system_identifier": "1", "addresses": [], "prepare_sha256": null, "warm": 0, "refresh_seconds": null,
        "rate_bytes_max": null, "copied_at": null, "looked_at": null, "failure": null, "progress": null,
        "added_at": "2026-01-02T11:59:00Z",
        "base": {
            "asked": "auto", "mode": "physical", "activity": "following", "reasons": [], "notes": [],
            "position": "0/1", "waiting_since": null, "said": null, "seeded_at": null, "told": null, "told_at": null,
        },
    })
}
