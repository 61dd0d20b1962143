//! One conversation at the proxy: encryption answered, the start-up packet read, and where it goes decided.
//!
//! ```text
//!   client ─▶ [TLS, asked for or at once] ─▶ start-up ─┬─ a branched database: its door
//!                                                      ├─ another one: where it was going, with TLS if that offers it
//!                                                      └─ refused: an error that the program shows
//!            ─▶ a request to cancel ─▶ who gave out its key
//!   nothing said: counted, over
//! ```

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::pg_startup::{
    self, FirstPacket, Replication, StartupError, decode, fatal_response, packet_length,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::relay::{self, Binding};
use super::sniff::TLS_HANDSHAKE;
use super::{OnSource, tls};
use crate::prefixed::Prefixed;
use crate::remote::{Destination, Dialled, Remote, Stream, ThisMachine};
use crate::session::{Event, Session};

/// How long a client may take for its first packet (PostgreSQL's own `authentication_timeout` default).
pub(super) const STARTUP_TIME_MAX: Duration = Duration::from_secs(60);

/// How long the server may take over a cancel request.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(10);

/// Requests for encryption before a session must begin: TLS and GSSAPI, once each.
const ENCRYPTION_REQUESTS_MAX: usize = 2;

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConversationError {
    /// The client took too long to begin.
    #[error("a client of {0} did not begin in time")]
    Late(Destination),
    /// What the client says is not the protocol.
    #[error("a client of {place} does not speak PostgreSQL")]
    Protocol {
        /// What it meant to talk to.
        place: Destination,
        /// What is wrong.
        #[source]
        source: StartupError,
    },
    /// TLS with the client failed.
    #[error("TLS with a client of {place} failed")]
    Tls {
        /// What it meant to talk to.
        place: Destination,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A side is gone.
    #[error("a conversation with {place} broke")]
    Broken {
        /// What it was with.
        place: Destination,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How a client begins.
struct Opening {
    client: Box<dyn Stream>,
    packet: Vec<u8>,
    first: FirstPacket,
    /// Whether the client has TLS, with the proxy.
    is_encrypted: bool,
}

/// Serves a client that meant `place`, to the end.
///
/// # Errors
/// [`ConversationError`], of which nobody is told but the log: the client has seen it end.
pub(super) async fn serve(
    session: &Session,
    client: Box<dyn Stream>,
    place: &Destination,
) -> Result<(), ConversationError> {
    let beginning = tokio::time::timeout(STARTUP_TIME_MAX, begin(session, client, place));
    let begun = beginning
        .await
        .map_err(|_| ConversationError::Late(place.clone()))??;
    let Some(opening) = begun else {
        session.ledger.count_silent();
        return Ok(());
    };
    let answered = match &opening.first {
        FirstPacket::CancelRequest { key } => {
            let owner = session.cancel_keys.owner(key);
            cancel(session, owner, opening).await
        }
        FirstPacket::Startup {
            database,
            replication,
            ..
        } => {
            let (database, replication) = (database.clone(), *replication);
            lead(session, opening, place, &database, replication).await
        }
        FirstPacket::SslRequest | FirstPacket::GssencRequest => Ok(()),
    };
    answered.map_err(|source| ConversationError::Broken {
        place: place.clone(),
        source,
    })
}

/// Answers requests for encryption and reads the packet that says what the client wants; none where it goes away
/// without a word.
async fn begin(
    session: &Session,
    mut client: Box<dyn Stream>,
    place: &Destination,
) -> Result<Option<Opening>, ConversationError> {
    let broken = |source| ConversationError::Broken {
        place: place.clone(),
        source,
    };
    let wrong = |source| ConversationError::Protocol {
        place: place.clone(),
        source,
    };
    let mut is_encrypted = false;
    for _ in 0..=ENCRYPTION_REQUESTS_MAX + 1 {
        let Some(header) = read_header(&mut client).await.map_err(broken)? else {
            client.shutdown().await.map_err(broken)?;
            return Ok(None);
        };
        if header[0] == TLS_HANDSHAKE && !is_encrypted {
            let whole = Box::new(Prefixed::new(header.to_vec(), client));
            client = encrypt(session, whole, place).await?;
            is_encrypted = true;
            continue;
        }
        let mut packet = vec![0; packet_length(header).map_err(wrong)?];
        packet[..4].copy_from_slice(&header);
        client.read_exact(&mut packet[4..]).await.map_err(broken)?;
        match decode(&packet).map_err(wrong)? {
            FirstPacket::SslRequest if !is_encrypted => {
                client.write_all(b"S").await.map_err(broken)?;
                client = encrypt(session, client, place).await?;
                is_encrypted = true;
            }
            FirstPacket::SslRequest | FirstPacket::GssencRequest => {
                client.write_all(b"N").await.map_err(broken)?;
                client.flush().await.map_err(broken)?;
            }
            first @ (FirstPacket::CancelRequest { .. } | FirstPacket::Startup { .. }) => {
                return Ok(Some(Opening {
                    client,
                    packet,
                    first,
                    is_encrypted,
                }));
            }
        }
    }
    let endless = io::Error::new(
        io::ErrorKind::InvalidData,
        "too many requests for encryption",
    );
    Err(broken(endless))
}

/// The first four bytes; none where the client says nothing and goes.
async fn read_header(client: &mut Box<dyn Stream>) -> io::Result<Option<[u8; 4]>> {
    let mut header = [0; 4];
    // A health check connects and goes.
    if client.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    client.read_exact(&mut header[1..]).await?;
    Ok(Some(header))
}

async fn encrypt(
    session: &Session,
    client: Box<dyn Stream>,
    place: &Destination,
) -> Result<Box<dyn Stream>, ConversationError> {
    session.authority.accept(client).await.map_err(|source| {
        if tls::is_disbelief(&source) {
            session.tell(Event::CertificateRefused(place.clone()));
        }
        ConversationError::Tls {
            place: place.clone(),
            source,
        }
    })
}

/// Passes a request to cancel on. The server answers with nothing but the end of the connection, once it is done; the
/// client waits for that.
async fn cancel(
    session: &Session,
    owner: Option<Destination>,
    mut opening: Opening,
) -> io::Result<()> {
    // A key that nobody of this session was given is nobody's query here.
    if let Some(owner) = owner {
        let mut server = dial(session, &owner).await?.stream;
        server.write_all(&opening.packet).await?;
        server.flush().await?;
        // Whatever else it says: it is no answer to this.
        let mut nothing = tokio::io::sink();
        let ended = tokio::io::copy(&mut server, &mut nothing);
        let _ = tokio::time::timeout(CANCEL_TIME_MAX, ended).await;
    }
    opening.client.shutdown().await
}

/// Branches are on this machine; all else is where the session's connections are made from.
async fn dial(session: &Session, to: &Destination) -> io::Result<Dialled> {
    match to {
        Destination::Tcp(address) if session.fence.door_at(*address).is_some() => {
            ThisMachine.dial(to).await
        }
        Destination::Tcp(_) | Destination::Unix(_) => session.remote.dial(to).await,
    }
}

/// Leads a session that wants `database` to where it belongs.
async fn lead(
    session: &Session,
    opening: Opening,
    place: &Destination,
    database: &str,
    replication: Replication,
) -> io::Result<()> {
    let fence = &session.fence;
    if let Destination::Tcp(address) = place
        && let Some(number) = fence.door_at(*address)
    {
        session.ledger.count_direct(number);
        return enter(session, opening, number).await;
    }
    let is_own = is_own(session, place).await;
    let branch = fence.branch_of(place, is_own, database);
    let what = match replication {
        Replication::Server => Some("(replication of the server)".to_owned()),
        // The server does not keep it to its database: a base backup is to be had on it.
        Replication::Database if branch.is_none() => Some(format!("{database} (replication)")),
        Replication::Database | Replication::No => None,
    };
    if let Some(what) = what {
        session.ledger.count_refused(place, &what);
        let message = format!(
            "bough: a connection to replicate at {place} would read databases that branches stand in for; \
             `bough exec --on-source-connection=allow` lets it through"
        );
        return refuse(opening.client, &message).await;
    }
    match (branch, fence.on_source()) {
        (Some(number), OnSource::Redirect) => redirect(session, opening, number, database).await,
        (Some(number), OnSource::Refuse | OnSource::Allow) => {
            session.ledger.count_refused_branch(number);
            let branch = fence.database(number);
            let message = format!(
                "bough: branch {} stands in for database \"{database}\" at {place}; connect to {}",
                branch.branch, branch.door
            );
            refuse(opening.client, &message).await
        }
        (None, _) if fence.asserts_isolation() => {
            session.ledger.count_refused(place, database);
            let message = format!(
                "bough: no branch stands in for database \"{database}\" at {place}, and the session asserts isolation"
            );
            refuse(opening.client, &message).await
        }
        (None, OnSource::Redirect | OnSource::Refuse | OnSource::Allow) => {
            pass_on(session, opening, place, database).await
        }
    }
}

/// Whether `place` is an address of the target itself, on whose every address a source may listen.
pub(super) async fn is_own(session: &Session, place: &Destination) -> bool {
    match place {
        Destination::Tcp(address) if session.fence.book.has_local_port(address.port()) => {
            // An agent that does not answer leaves it open: then it counts as one.
            session.remote.owns(address.ip()).await.unwrap_or(true)
        }
        Destination::Tcp(_) | Destination::Unix(_) => false,
    }
}

/// Leads a session that meant the source to the branch, under the name that the database has there.
async fn redirect(
    session: &Session,
    mut opening: Opening,
    number: usize,
    database: &str,
) -> io::Result<()> {
    let branch = session.fence.database(number);
    if branch.database != database {
        let renamed = pg_startup::with_database(&opening.packet, &branch.database);
        opening.packet =
            renamed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    session.ledger.count_redirected(number);
    enter(session, opening, number).await
}

/// Carries a session through a branch's door.
async fn enter(session: &Session, opening: Opening, number: usize) -> io::Result<()> {
    let branch = session.fence.database(number);
    let door = Destination::Tcp(branch.door);
    let mut server = match ThisMachine.dial(&door).await {
        Ok(dialled) => Box::new(session.uploads.to_far(dialled.stream)),
        Err(error) => {
            let message = format!("bough: branch {} does not answer: {error}", branch.branch);
            return refuse(opening.client, &message).await;
        }
    };
    server.write_all(&opening.packet).await?;
    // The door speaks no TLS, so its server offers no binding.
    let keys = &session.cancel_keys;
    relay::carry(opening.client, server, Binding::Keep, keys, &door).await
}

/// Passes a session on to where it was going.
async fn pass_on(
    session: &Session,
    opening: Opening,
    place: &Destination,
    database: &str,
) -> io::Result<()> {
    let (server, is_encrypted) = match reach(session, place, opening.is_encrypted).await {
        Ok(reached) => reached,
        Err(error) => {
            let message = format!("bough: cannot pass on to {place}: {error}");
            return refuse(opening.client, &message).await;
        }
    };
    let mut server = server;
    session.ledger.count_passed(place, database);
    server.write_all(&opening.packet).await?;
    server.flush().await?;
    let binding = match (opening.is_encrypted, is_encrypted) {
        (true, true) => Binding::Refuse,
        (false, true) => Binding::Leave,
        (_, false) => Binding::Keep,
    };
    let keys = &session.cancel_keys;
    relay::carry(opening.client, server, binding, keys, place).await
}

/// A connection to the server at `place`, and whether it has TLS: it does where the server offers it, and must where
/// the program has it.
async fn reach(
    session: &Session,
    place: &Destination,
    is_demanded: bool,
) -> io::Result<(Box<dyn Stream>, bool)> {
    let server = session.remote.dial(place).await?.stream;
    let mut server: Box<dyn Stream> = Box::new(session.uploads.to_far(server));
    if let Destination::Unix(_) = place {
        // The server offers no TLS there (section 19.9), and needs none.
        return Ok((server, false));
    }
    server.write_all(&pg_startup::SSL_REQUEST_PACKET).await?;
    server.flush().await?;
    let mut answer = [0];
    server.read_exact(&mut answer).await?;
    if answer == *b"S" {
        let (server, asked) = tls::connect(server).await?;
        if asked.load(Ordering::Relaxed) {
            tracing::debug!(%place, "the server asks for a certificate, which the fence does not have");
        }
        return Ok((server, true));
    }
    if is_demanded {
        return Err(io::Error::other(
            "the server offers no TLS, and the program has it with the fence",
        ));
    }
    Ok((server, false))
}

/// Ends a conversation by an error that the program shows. 08004: the server rejected the connection.
async fn refuse(mut client: Box<dyn Stream>, message: &str) -> io::Result<()> {
    client.write_all(&fatal_response("08004", message)).await?;
    client.flush().await?;
    client.shutdown().await
}
