//! A running agent in a namespace, and sessions with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use wire::pump::{ConnectError, Inbox, Session, connect};
use wire::{AgentKey, Endpoint, OpenRequest, SessionId, SessionKey};

use crate::namespace::{Namespace, Program};

const KEY: [u8; 32] = [0x5a; 32];

/// What no step of these tests takes as long as.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// An agent and the files that it was given.
pub(crate) struct TestAgent {
    pub(crate) program: Program,
    dir: tempfile::TempDir,
}

/// What an agent is started with.
#[derive(Default)]
pub(crate) struct Files<'a> {
    pub(crate) resolv_conf: &'a str,
    pub(crate) hosts: &'a str,
    pub(crate) process: Option<u32>,
    pub(crate) grace: Option<Duration>,
}

impl TestAgent {
    pub(crate) fn start(namespace: &Namespace, files: &Files<'_>) -> Self {
        Self::start_under(namespace, &[], files)
    }

    /// Starts it under a program that changes what it may do.
    pub(crate) fn start_under(namespace: &Namespace, under: &[&str], files: &Files<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("resolv.conf"), files.resolv_conf).unwrap();
        std::fs::write(dir.path().join("hosts"), files.hosts).unwrap();
        let agent = env!("CARGO_BIN_EXE_serve-agent");
        let line = [under, &[agent]].concat();
        let mut command = namespace.command(line[0]);
        command
            .args(&line[1..])
            .arg(dir.path().join("socket"))
            .arg(dir.path().join("resolv.conf"))
            .arg(dir.path().join("hosts"))
            .arg(dir.path())
            .arg(files.process.map_or("none".into(), |id| id.to_string()))
            .arg(files.grace.unwrap_or(SOON).as_secs().to_string());
        let mut program = Program::start(command).unwrap();
        let digits: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        program.say(&digits);
        assert_eq!(program.line().unwrap(), "ready");
        Self { program, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Where programs without a session come to.
    pub(crate) fn proxy(&self) -> PathBuf {
        self.dir.path().join("socket.proxy")
    }

    pub(crate) async fn session(&self) -> (Session, Inbox) {
        let id = SessionId::draw();
        let key = AgentKey::new(KEY).session_key(&id);
        soon(self.session_with(id, key)).await.unwrap()
    }

    pub(crate) async fn session_with(
        &self,
        id: SessionId,
        key: SessionKey,
    ) -> Result<(Session, Inbox), ConnectError> {
        let socket = self.socket();
        let dial = move || UnixStream::connect(socket.clone());
        connect(dial, id, key, SOON).await
    }
}

/// What ends within [`SOON`].
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(SOON, what).await.expect("it hangs")
}

pub(crate) fn tcp(address: &str) -> OpenRequest {
    OpenRequest::Tcp {
        destination: Endpoint::Address(address.parse().unwrap()),
    }
}

pub(crate) fn tcp_to(host: &str, port: u16) -> OpenRequest {
    OpenRequest::Tcp {
        destination: Endpoint::Name {
            host: host.into(),
            port,
        },
    }
}
