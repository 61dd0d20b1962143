//! What measurements stand on, made when the first needs it and kept while the next needs the same: a source with data,
//! an engine in a place, an ordinary server.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use fixtures::TempDir;
use rustix::fs::statvfs;

use super::client::Client;
use super::engine::{Engine, Keeping};
use super::log;
use super::place::Place;
use super::rows::Copies;
use super::source::{Data, Source};
use crate::console;

/// What must stay free of the machine's disk: others work on it too.
const DISK_FLOOR_BYTES: u64 = 5 << 30;
/// A server without data, its WAL, and the programs' output.
const SERVER_BYTES: u64 = 2 << 30;
/// The file of a filesystem is sparse: what is not used takes no room. Branches of a bench write little.
const FILESYSTEM_SPARE_BYTES: u64 = 8 << 30;
/// The ordinary server's data: it is only asked for a row by its key.
const ORDINARY: Data = Data::Megabytes(15);

/// Why a row has no number: this machine or this engine cannot do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unmeasurable(String);

impl Unmeasurable {
    /// As an error.
    pub(super) fn because(reason: impl Into<String>) -> anyhow::Error {
        Self(reason.into()).into()
    }
}

impl fmt::Display for Unmeasurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unmeasurable {}

/// What every start of an engine needs.
#[derive(Debug)]
pub(super) struct Setup {
    /// The program, where every account can run it.
    pub(super) bough: PathBuf,
    /// Where PostgreSQL is.
    pub(super) postgres_path: OsString,
}

/// The stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) setup: Setup,
    pub(super) client: Client,
    pub(super) files: TempDir,
    interrupted: Arc<AtomicBool>,
    // In the order of dropping: engines read sources.
    engine: Option<(Data, Keeping, Engine)>,
    source: Option<Source>,
    ordinary: Option<Source>,
    /// Places that this machine or engine cannot have, and why.
    refused: Vec<(Place, String)>,
}

/// An engine and the source that it copies, with the ordinary server and the client beside them.
pub(super) struct Scene<'a> {
    pub(super) engine: &'a mut Engine,
    pub(super) source: &'a Source,
    pub(super) ordinary: &'a Source,
    pub(super) client: &'a Client,
}

impl Stage {
    /// An empty one, for this program.
    pub(super) fn set(
        program: &Path,
        postgres_path: OsString,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self> {
        let files = TempDir::new()?;
        // Where every account may run it, and where a rebuild does not replace it.
        let bough = files.path().join("bough");
        fs::copy(program, &bough).with_context(|| format!("copy {}", program.display()))?;
        Ok(Self {
            setup: Setup {
                bough,
                postgres_path,
            },
            client: Client::new()?,
            files,
            interrupted,
            engine: None,
            source: None,
            ordinary: None,
            refused: Vec::new(),
        })
    }

    /// What the engine complained of last.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = self.engine.as_ref().map(|(_, _, engine)| engine.log());
        let log = log.unwrap_or_default();
        log::complaints(&log)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// Ends what was measured last, so that a refused row leaves nothing running.
    pub(super) fn clear_engine(&mut self) {
        self.engine = None;
    }

    /// Ends the source, and the engine that reads it.
    pub(super) fn clear_source(&mut self) {
        self.engine = None;
        self.source = None;
    }

    /// # Errors
    /// When the user asked for an end.
    pub(super) fn check_interrupt(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// A source with this data.
    ///
    /// # Errors
    /// [`Unmeasurable`] when the disk has no room for it and one copy.
    pub(super) fn source(&mut self, data: Data) -> Result<&Source> {
        self.check_interrupt()?;
        if self
            .source
            .as_ref()
            .is_none_or(|source| source.data != data)
        {
            self.engine = None;
            self.source = None;
            self.check_room(data, 2)?;
            console::note(&format!("filling a source: {}", data.word()));
            self.source = Some(Source::fill(data)?);
        }
        Ok(self.source.as_ref().expect("it was filled above"))
    }

    /// That the disk has room for so many copies of this data.
    ///
    /// # Errors
    /// [`Unmeasurable`] with the numbers.
    pub(super) fn check_room(&self, data: Data, copies: u64) -> Result<()> {
        let wanted = copies * bytes(data) + SERVER_BYTES + DISK_FLOOR_BYTES;
        let free = free_bytes(self.files.path())?;
        if free >= wanted {
            return Ok(());
        }
        let gigabytes = |bytes: u64| bytes.div_ceil(1 << 30);
        Err(Unmeasurable::because(format!(
            "the disk has {} GB free, and {} GB are wanted",
            free >> 30,
            gigabytes(wanted)
        )))
    }

    /// The ordinary server.
    pub(super) fn ordinary(&mut self) -> Result<&Source> {
        if self.ordinary.is_none() {
            self.ordinary = Some(Source::fill(ORDINARY)?);
        }
        Ok(self.ordinary.as_ref().expect("it was filled above"))
    }

    /// What first copies of the present source are made with, without an engine.
    ///
    /// # Errors
    /// When the user asked for an end.
    pub(super) fn copies(&mut self) -> Result<Copies<'_>> {
        self.check_interrupt()?;
        self.engine = None;
        let source = self.source.as_ref().context("there is no source")?;
        Ok(Copies {
            setup: &self.setup,
            source,
            ordinary: self
                .ordinary
                .as_ref()
                .context("there is no ordinary server")?,
            client: &self.client,
            room: bytes(source.data) + FILESYSTEM_SPARE_BYTES,
        })
    }

    /// An engine in this place with this source.
    ///
    /// # Errors
    /// [`Unmeasurable`] when there cannot be one.
    pub(super) fn scene(
        &mut self,
        place: Place,
        data: Data,
        keeping: Keeping,
    ) -> Result<Scene<'_>> {
        self.check_interrupt()?;
        if let Some((_, why)) = self.refused.iter().find(|(refused, _)| *refused == place) {
            return Err(Unmeasurable::because(why.clone()));
        }
        self.source(data)?;
        self.ordinary()?;
        let stands = |(old, kept, engine): &(Data, Keeping, Engine)| {
            *old == data && *kept == keeping && engine.place == place
        };
        if !self.engine.as_ref().is_some_and(stands) {
            self.engine = None;
            self.check_room(data, if place.shares_blocks() { 1 } else { 3 })?;
            let room = bytes(data) + FILESYSTEM_SPARE_BYTES;
            let started = Engine::start(&self.setup, place, keeping, room);
            if let Err(error) = &started
                && let Some(Unmeasurable(why)) = error.downcast_ref()
            {
                self.refused.push((place, why.clone()));
            }
            self.engine = Some((data, keeping, started?));
        }
        let (_, _, engine) = self.engine.as_mut().expect("it was started above");
        Ok(Scene {
            engine,
            source: self.source.as_ref().expect("it was filled above"),
            ordinary: self.ordinary.as_ref().expect("it was filled above"),
            client: &self.client,
        })
    }

    /// The same in the best place that this machine and engine can have.
    ///
    /// # Errors
    /// As [`Stage::scene`], when there is none.
    pub(super) fn best_scene(&mut self, data: Data, keeping: Keeping) -> Result<Scene<'_>> {
        let mut reasons = Vec::new();
        for place in Place::ALL {
            // A place without root's help is measured for itself.
            if place == Place::OverlayXfsRootless {
                continue;
            }
            match self.scene(place, data, keeping) {
                Ok(_) => return self.scene(place, data, keeping),
                Err(error) if error.is::<Unmeasurable>() => reasons.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        reasons.dedup();
        Err(Unmeasurable::because(reasons.join("; ")))
    }
}

/// What data takes on disk, with what an empty server has.
fn bytes(data: Data) -> u64 {
    (u64::from(data.megabytes()) + 100) << 20
}

/// Free bytes of a path's filesystem for an ordinary account.
pub(super) fn free_bytes(path: &Path) -> Result<u64> {
    let found =
        statvfs(path).with_context(|| format!("ask for free space at {}", path.display()))?;
    Ok(found.f_bavail * found.f_frsize)
}
