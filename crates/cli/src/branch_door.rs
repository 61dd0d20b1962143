//! Ports of this machine's loopback that lead to branches' doors, and say there what a guarded door asks for.
//!
//! ```text
//!   a client ──127.0.0.1:PORT──> the pass, then what it says ──> a port of the host's pod, or of this machine
//! ```
//!
//! Owns when one is needed, and carrying its connections. Leaves the ways into pods to `contexts`.

mod passes;

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::engine_api::{BranchConnection, SessionId};
use model::{BranchName, ExitCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::contexts::BranchHost;
use crate::engine_client::EngineClient;
use crate::error::CommandError;
use passes::Passes;

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// No port leads to a branch.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for connections to the branch {branch}")]
struct DoorError {
    branch: BranchName,
    #[source]
    source: io::Error,
}

/// How to reach a branch from this machine, by its engine, to a session or a command.
#[derive(Debug)]
pub(crate) struct Way {
    /// Where it is reached.
    pub(crate) connection: BranchConnection,
    /// Whether that is a port of this program, which leads there for as long as it runs.
    pub(crate) is_led: bool,
}

/// Finds the way to a branch whose engine is behind `client`: in the pod of `host`, or on this machine. Its door is met
/// directly where it is here and asks for nothing.
///
/// # Errors
/// When the engine gives none, or no port can be listened on.
pub(crate) async fn find_way(
    host: Option<&BranchHost>,
    client: &EngineClient,
    branch: &BranchName,
    session: Option<&SessionId>,
) -> Result<Way, CommandError> {
    let mut connection = client.connection(branch, session).await?;
    let passes = Passes::new(client, branch, session, &connection);
    let port = connection.port;
    let led = match host {
        Some(host) => lead(passes, host.dial_port(port)).await,
        None if connection.pass.is_some() => {
            let address = (connection.host.clone(), port);
            lead(passes, move || TcpStream::connect(address.clone())).await
        }
        None => {
            return Ok(Way {
                connection,
                is_led: false,
            });
        }
    };
    let led = led.map_err(|source| {
        let branch = branch.clone();
        CommandError::new(ExitCode::Internal, DoorError { branch, source })
    })?;
    connection.host = led.ip().to_string();
    connection.port = led.port();
    Ok(Way {
        connection,
        is_led: true,
    })
}

/// Listens on a port of its own, and carries what comes to where `dial` leads.
async fn lead<D, F, S>(passes: Passes, dial: D) -> io::Result<SocketAddr>
where
    D: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let way = Arc::new((passes, dial));
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    let way = Arc::clone(&way);
                    tokio::spawn(async move { carry(client, &way.0, &way.1).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to a branch cannot be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    });
    Ok(address)
}

async fn carry<D, F, S>(mut client: TcpStream, passes: &Passes, dial: &D)
where
    D: Fn() -> F,
    F: Future<Output = io::Result<S>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    client.set_nodelay(true).ok();
    let carried = async {
        let (said, mut stream) = tokio::try_join!(passes.say(), dial())?;
        stream.write_all(&said).await?;
        copy_bidirectional(&mut client, &mut stream).await
    };
    if let Err(error) = carried.await {
        tracing::info!(%error, "a connection to a branch broke off");
        client.set_zero_linger().ok();
    }
}
