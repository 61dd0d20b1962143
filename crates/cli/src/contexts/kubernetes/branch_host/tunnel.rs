//! A Unix socket of this machine that leads to the engine of a branch host: each connection is one `exec` of `bough engine
//! pipe` in the host's pod.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use operator::agents::ApiFailure;
use tokio::io::copy;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Bytes of a connection that wait on either side.
const BUFFER_BYTES: usize = 64 << 10;

/// What the name of a folder begins with whose socket does not listen yet.
const MAKING: &str = ".";

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The socket and what carries its connections. It goes with this value.
pub(super) struct EngineTunnel {
    folder: PathBuf,
    task: JoinHandle<()>,
}

impl EngineTunnel {
    /// Opens the socket `engine.sock` in a new folder below `data_dir`, for its owner alone.
    pub(super) fn open(pods: Api<Pod>, pod: String, data_dir: &Path) -> io::Result<Self> {
        let hosts = data_dir.join("hosts");
        let name = format!("{:06x}", rand::random::<u32>() >> 8);
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&hosts)?;
        remove_left(&hosts)?;
        // Bound and not listening yet, it would answer as what a killed program left: it has its name once it listens.
        let making = hosts.join(format!("{MAKING}{}", &name[1..]));
        builder.recursive(false).create(&making)?;
        let folder = hosts.join(name);
        let listening = UnixListener::bind(making.join("engine.sock"))
            .and_then(|listener| fs::rename(&making, &folder).map(|()| listener));
        let listener = listening.inspect_err(|_| {
            // Nobody else removes what is being made.
            let _ = fs::remove_dir_all(&making);
        })?;
        let task = tokio::spawn(serve(listener, pods, pod));
        Ok(Self { folder, task })
    }

    /// Where the socket is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for EngineTunnel {
    fn drop(&mut self) {
        self.task.abort();
        // A folder that stays is empty but for a socket that nobody listens on.
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the folders of programs that were killed: their sockets are there, and nobody listens. Those that another program
/// is just making are left alone.
fn remove_left(hosts: &Path) -> io::Result<()> {
    for entry in fs::read_dir(hosts)? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(MAKING.as_bytes())
        {
            continue;
        }
        let folder = entry.path();
        let reached = std::os::unix::net::UnixStream::connect(folder.join("engine.sock"));
        if reached.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            // Another program may be removing it as well.
            let _left = fs::remove_dir_all(&folder);
        }
    }
    Ok(())
}

async fn serve(listener: UnixListener, pods: Api<Pod>, pod: String) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let (pods, pod) = (pods.clone(), pod.clone());
                tokio::spawn(async move {
                    if let Err(error) = carry(client, &pods, &pod).await {
                        // The client sees its connection break off.
                        tracing::info!(%error, pod, "the engine of the pod is not reached");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the engine cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn carry(mut client: UnixStream, pods: &Api<Pod>, pod: &str) -> io::Result<()> {
    let params = AttachParams::default()
        .stdin(true)
        .stderr(false)
        .max_stdin_buf_size(BUFFER_BYTES)
        .max_stdout_buf_size(BUFFER_BYTES);
    let process = pods
        .exec(pod, [operator::PROGRAM, "engine", "pipe"], &params)
        .await;
    let mut process = process.map_err(|error| io::Error::other(ApiFailure::from(error)))?;
    let (Some(stdout), Some(stdin)) = (process.stdout(), process.stdin()) else {
        return Err(io::Error::other("the program there has no input or output"));
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut stdin, mut stdout) = (stdin, stdout);
    // Neither side closes one direction alone, and a program there that is not let go stays.
    tokio::select! {
        told = copy(&mut stdout, &mut to_client) => told?,
        asked = copy(&mut from_client, &mut stdin) => asked?,
    };
    drop((stdin, stdout));
    process.abort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::contexts::kubernetes::played_api::{play, refusal};

    #[test]
    fn what_a_killed_program_left_goes_and_what_is_served_stays() {
        let hosts = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = hosts.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (left, served, nascent) = (folder("left"), folder("served"), folder("nascent"));
        let making = folder(".aking");
        for bound in [&left, &making] {
            // Gone or not listening yet: whoever connects is told the same.
            drop(UnixListener::bind(bound.join("engine.sock")).unwrap());
        }
        let _listener = UnixListener::bind(served.join("engine.sock")).unwrap();
        remove_left(hosts.path()).unwrap();
        assert!(!left.exists());
        assert!(served.exists() && nascent.exists() && making.exists());
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_made_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        // A socket's path has at most 107 bytes (unix(7)).
        let deep = root.path().join("d".repeat(100));
        let pods = Api::namespaced(play(|_, _, _| refusal(404, "not found")), "shop");
        assert!(EngineTunnel::open(pods, "p".to_owned(), &deep).is_err());
        assert_eq!(fs::read_dir(deep.join("hosts")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_socket_has_its_name_once_it_listens_and_goes_with_its_tunnel() {
        let root = tempfile::tempdir().unwrap();
        let refuse = |_: &str, _: &str, _| refusal(404, "not found");
        let pods = Api::namespaced(play(refuse), "shop");
        let tunnel = EngineTunnel::open(pods, "p".to_owned(), root.path()).unwrap();
        let hosts = root.path().join("hosts");
        let names = || {
            let entries = fs::read_dir(&hosts).unwrap();
            let names = entries.map(|entry| entry.unwrap().path());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(), [tunnel.folder().to_owned()]);
        UnixStream::connect(tunnel.folder().join("engine.sock"))
            .await
            .unwrap();
        remove_left(&hosts).unwrap();
        drop(tunnel);
        assert_eq!(names(), Vec::<PathBuf>::new());
    }
}
