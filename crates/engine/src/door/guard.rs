//! Who is let in at the doors of a branch host: whoever says, before PostgreSQL's first byte, what this engine gave out.
//!
//! ```text
//! connected ──a pass──> sealed by us, for this branch? ──a session's──> it holds the branch, now or soon ──> in
//!     │ PostgreSQL's first packet, or nothing in time      └──a command's──> its time is not over ──────────> in
//!     └──> refused, in PostgreSQL's words
//! ```
//!
//! Owns the engine's key, the seals that are made of it, and the look at each who comes. Nothing is remembered of what was
//! given out, so that an engine that was restarted knows its guests. Leaves the bytes of a pass to `model::door_pass`, and
//! which sessions hold a branch to its driver.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use model::door_pass::{COMMAND_TIME, DoorPass, Guest, MAGIC, PASS_BYTES, SEAL_BYTES, SessionMark};
use model::engine_api::SessionId;
use model::{BranchName, Secret};
use rand::TryRng as _;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::settings::Doors;

/// How long somebody may take to say who he is, and a session that was silent to be heard again: two of its heartbeats.
pub(super) const KNOCK_TIME_MAX: Duration = Duration::from_secs(8);

/// Connections of one door that have yet to be let in: sessions are at once, so more are somebody who tries.
pub(super) const WAITING_MAX: u32 = 64;

/// Bytes of the key: the width of the hash.
const KEY_BYTES: usize = 32;

/// What a seal is for, so that one of the key's other uses could never be one.
const PURPOSE: &[u8] = b"bough door\0";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the key of the doors {path}")]
pub struct KeyError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What the engine seals with. It lies in the data directory, so that passes outlive the engine.
#[derive(Clone, PartialEq, Eq)]
pub struct DoorKey([u8; KEY_BYTES]);

impl fmt::Debug for DoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DoorKey(***)")
    }
}

impl DoorKey {
    /// The key of a data directory, drawn where doors are guarded for the first time; none where they are open. Doors that
    /// were guarded once stay so, whoever starts the engine.
    ///
    /// # Errors
    /// [`KeyError`] when the file cannot be read or made, or holds something else.
    pub fn of(path: &Path, doors: Doors) -> Result<Option<Self>, KeyError> {
        let failed = |source| KeyError {
            path: path.to_owned(),
            source,
        };
        match (fs::read(path), doors) {
            (Ok(bytes), _) => {
                let key = bytes.try_into().map(|key| Some(Self(key)));
                key.map_err(|_| failed(io::Error::from(io::ErrorKind::InvalidData)))
            }
            (Err(error), Doors::Guarded) if error.kind() == io::ErrorKind::NotFound => {
                Self::draw(path).map(Some).map_err(failed)
            }
            (Err(error), Doors::Open) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            (Err(error), _) => Err(failed(error)),
        }
    }

    fn draw(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        let drawn = rand::rngs::SysRng.try_fill_bytes(&mut key);
        drawn.map_err(io::Error::other)?;
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(&new)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(Self(key))
    }

    /// The lock of a branch's door. One that is made later under the same name has another.
    pub fn lock(&self, name: &BranchName, created_at: Timestamp, clock: Clock) -> Lock {
        Lock {
            key: self.clone(),
            branch: format!("{name}\0{created_at}\0"),
            clock,
            time_max: KNOCK_TIME_MAX,
        }
    }
}

/// What a branch's door asks for.
#[derive(Debug, Clone)]
pub struct Lock {
    key: DoorKey,
    branch: String,
    clock: Clock,
    pub(super) time_max: Duration,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// He begins as PostgreSQL's clients do.
    #[error(
        "this branch lets in nobody without a credential of Bough's, which this connection did not bring: connect with \
         bough exec or bough db-branches psql or url, of no older version than the branch's host"
    )]
    Missing,
    /// What he says is not of this engine, or is another branch's.
    #[error("this branch did not give out the credential that this connection brought")]
    Wrong,
    /// Not any more.
    #[error("the session or command that this connection's credential was given to is over")]
    Over,
    /// He says nothing, or not all of it.
    #[error("this branch was not told a credential of Bough's in time")]
    Late,
    /// Too many are being looked at.
    #[error("too many connections wait to be let in to this branch")]
    Crowded,
}

impl Refusal {
    /// As the protocol has it (appendix A): invalid authorization, or too many connections.
    pub(super) fn sqlstate(self) -> &'static str {
        match self {
            Self::Missing | Self::Wrong | Self::Over | Self::Late => "28000",
            Self::Crowded => "53300",
        }
    }
}

/// Who stands at the door.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Knock {
    /// A guest.
    Guest,
    /// Somebody who is refused; what he has said already of PostgreSQL's first packet.
    Stranger(Refusal, Option<[u8; 4]>),
}

impl Lock {
    /// What lets a session in for as long as it holds the branch, or a command for a while.
    pub fn pass(&self, session: Option<&SessionId>) -> Secret {
        let guest = match session {
            Some(id) => Guest::Session(Guest::mark(id)),
            None => Guest::Command {
                nonce: rand::random(),
                until_seconds: self.now().saturating_add(COMMAND_TIME.as_secs()),
            },
        };
        self.seal(guest).text()
    }

    pub(super) fn seal(&self, guest: Guest) -> DoorPass {
        let seal = self.mac(&guest).finalize().into_bytes().into();
        DoorPass { guest, seal }
    }

    fn mac(&self, guest: &Guest) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key.0);
        let mut mac = mac.expect("a key of any length will do");
        for part in [PURPOSE, self.branch.as_bytes(), &guest.sealed_bytes()] {
            mac.update(part);
        }
        mac
    }

    /// Whether the seal is ours, in a time that tells nothing of it.
    fn is_ours(&self, guest: &Guest, seal: &[u8; SEAL_BYTES]) -> bool {
        self.mac(guest).verify_slice(seal).is_ok()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_second()).unwrap_or_default()
    }

    /// Hears who comes, within the door's time. `holders` are the sessions that hold the branch.
    ///
    /// # Errors
    /// The connection's.
    pub(super) async fn hear(
        &self,
        client: &mut (impl AsyncRead + Unpin),
        holders_rx: &mut watch::Receiver<BTreeSet<SessionMark>>,
    ) -> io::Result<Knock> {
        let heard = tokio::time::timeout(self.time_max, listen(client)).await;
        let guest = match heard {
            Err(_) => return Ok(Knock::Stranger(Refusal::Late, None)),
            Ok(said) => match said? {
                Said::Packet(header) => {
                    return Ok(Knock::Stranger(Refusal::Missing, Some(header)));
                }
                Said::Pass(said) => match self.check(&said) {
                    Ok(guest) => guest,
                    Err(refusal) => return Ok(Knock::Stranger(refusal, None)),
                },
            },
        };
        let Guest::Session(mark) = guest else {
            return Ok(Knock::Guest);
        };
        // One whose machine slept dials before it is heard again.
        let holds = holders_rx.wait_for(|holders| holders.contains(&mark));
        let held = tokio::time::timeout(self.time_max, holds).await;
        Ok(match held {
            Ok(Ok(_)) => Knock::Guest,
            Ok(Err(_)) | Err(_) => Knock::Stranger(Refusal::Over, None),
        })
    }

    fn check(&self, said: &[u8; PASS_BYTES]) -> Result<Guest, Refusal> {
        let pass = DoorPass::decode(said).map_err(|_| Refusal::Wrong)?;
        if !self.is_ours(&pass.guest, &pass.seal) {
            return Err(Refusal::Wrong);
        }
        match pass.guest {
            Guest::Command { until_seconds, .. } if until_seconds <= self.now() => {
                Err(Refusal::Over)
            }
            guest @ (Guest::Command { .. } | Guest::Session(_)) => Ok(guest),
        }
    }
}

/// What a connection begins with.
enum Said {
    /// As long as a pass, and beginning as one does.
    Pass([u8; PASS_BYTES]),
    /// The beginning of something else.
    Packet([u8; MAGIC.len()]),
}

async fn listen(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Said> {
    let mut header = [0; MAGIC.len()];
    client.read_exact(&mut header).await?;
    if header != MAGIC {
        return Ok(Said::Packet(header));
    }
    let mut said = [0; PASS_BYTES];
    let (magic, rest) = said.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&header);
    client.read_exact(rest).await?;
    Ok(Said::Pass(said))
}

/// One connection that has yet to be let in, while it lives.
pub(super) struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    /// None where too many wait already.
    pub(super) fn begin(count: &'a AtomicU32) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::SeqCst) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
