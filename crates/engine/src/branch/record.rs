//! What is journaled of a branch, and the view of it that everybody may see.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use model::engine_api::{
    BaseView, BranchConnection, BranchPhase, BranchView, CopyProgress, EnsureBranch, SourceProxy,
    SpecView,
};
use model::pg_url::Address;
use model::{BranchId, BranchName, ByteSize, CopySpec, Namespace, PgMajor, PgUrl, Secret};
use serde::{Deserialize, Serialize};

use super::hold::Hold;
use super::state::{AfterRemoval, State};
use crate::catalogue::Record;
use crate::clone::{CloneName, ServerImage};

/// What a branch is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The source's connection string, password included.
    pub url: Secret,
    /// The way to the source, where this machine does not reach it by itself.
    #[serde(default)]
    pub proxy: Option<SourceProxy>,
    /// The database within the source.
    pub database: Option<String>,
    /// What is copied.
    pub copy: CopySpec,
    /// The branch's major version, where one was asked for.
    pub version: Option<PgMajor>,
    /// Settings for every connection to the source.
    pub connection_settings: BTreeMap<String, String>,
    /// The age up to which data is accepted unasked, in seconds.
    #[serde(default)]
    pub max_age_seconds: Option<u64>,
}

impl Spec {
    /// The spec of a request whose source is a URL by now.
    ///
    /// # Errors
    /// Why the URL is none.
    pub fn of(request: &EnsureBranch, url: &Secret) -> Result<Self, model::pg_url::PgUrlError> {
        PgUrl::parse(url.reveal())?;
        Ok(Self {
            url: url.clone(),
            proxy: request.proxy.clone(),
            database: request.database.clone(),
            copy: request.copy.clone(),
            version: request.version,
            connection_settings: request.connection_settings.clone(),
            max_age_seconds: request.max_age_seconds,
        })
    }

    /// The connection string.
    pub fn url(&self) -> PgUrl {
        PgUrl::parse(self.url.reveal()).expect("a spec is made of a URL that parses")
    }

    /// The source's database as the request names it.
    pub fn database(&self) -> String {
        self.database
            .clone()
            .or_else(|| self.url().database())
            .unwrap_or_default()
    }

    /// What two requests must have in common to mean the same branch; no secret in it.
    pub fn view(&self) -> SpecView {
        let url = self.url();
        let addresses: Vec<String> = url.addresses().iter().map(ToString::to_string).collect();
        SpecView {
            source: addresses.join(","),
            network: self.proxy.as_ref().map(|proxy| proxy.network.clone()),
            database: self.database(),
            user: url.user().unwrap_or_default(),
            copy: self.copy.clone(),
            version: self.version,
            connection_settings: self.connection_settings.clone(),
        }
    }
}

/// What is known of the base once the branch was cloned from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// For the view.
    pub base: BaseView,
    /// How the branch's server is run.
    pub image: ServerImage,
    /// The database's name in the branch.
    pub database: String,
    /// The snapshot on disk.
    pub size_bytes: ByteSize,
}

/// Whether a branch's server lets the application of the spec's URL in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplicationAccess {
    /// It has to be told: what it knew may be gone, or is another's.
    #[default]
    Unsure,
    /// Nobody was in the clone yet: it knows whom its snapshot admits.
    Inborn,
    /// The server was told, and knows for as long as it runs.
    Told,
}

/// Everything journaled of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchRecord {
    /// The resource name.
    pub name: BranchName,
    /// The id.
    pub id: BranchId,
    /// Where the id counts.
    pub namespace: Namespace,
    /// What it is made from.
    pub spec: Spec,
    /// Where it stands.
    pub state: State,
    /// Who holds it.
    pub hold: Hold,
    /// Its clone, from the moment that its files are being made to their removal.
    pub clone: Option<CloneName>,
    /// Its door's port.
    pub port: u16,
    /// When it was first asked for.
    pub created_at: Timestamp,
    /// When it last became ready.
    pub ready_at: Option<Timestamp>,
    /// Whether its server knows the password of the spec's URL.
    #[serde(default)]
    pub application_access: ApplicationAccess,
    /// What it was cloned from.
    pub origin: Option<Origin>,
    /// The boot of the machine that its server's memory belongs to.
    pub boot_id: String,
    /// The mount of the volume through which something was written that may not be on the disk: where another one is
    /// mounted by now, that may be lost. None: everything is on the disk.
    #[serde(default)]
    pub unsynced_on: Option<u64>,
}

impl Record for BranchRecord {
    const TABLE: &'static str = "branches";

    fn key(&self) -> String {
        self.name.to_string()
    }
}

/// The phase of a state.
pub fn phase(state: &State) -> BranchPhase {
    match state {
        // A reset is the first step of a copy to those who hold or wait for the branch: it is not going away.
        State::AwaitingSnapshot | State::Deleting(AfterRemoval::Anew) => BranchPhase::Copying,
        State::Cloning { .. } => BranchPhase::Cloning,
        State::Starting { .. } => BranchPhase::Starting,
        // To whoever connects, one that sleeps is there as well.
        State::Ready { .. } | State::FallingAsleep { .. } | State::Asleep { .. } => {
            BranchPhase::Ready
        }
        State::Failing(_) | State::Failed(_) => BranchPhase::Failed,
        State::Deleting(AfterRemoval::Gone) | State::Gone => BranchPhase::Deleting,
    }
}

impl BranchRecord {
    /// How to connect to this branch: the source's own URL with the door's address, and with the database where the
    /// request named another. None before there is a clone. Which addresses its source has, others know.
    pub fn connection(&self) -> Option<BranchConnection> {
        let identity = self.identity()?;
        let address = Address {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: self.port,
        };
        let source = self.spec.url();
        let moved = source.with_address(&address);
        let url = match &self.origin {
            Some(origin) if source.database().as_deref() != Some(&origin.database) => {
                moved.with_database(&origin.database)
            }
            Some(_) | None => moved,
        };
        Some(BranchConnection {
            host: address.host,
            port: address.port,
            database: url.database().unwrap_or_default(),
            user: url.user().unwrap_or_default(),
            url: Secret::new(url.reveal()),
            identity,
            source_addresses: Vec::new(),
        })
    }

    /// What the clone's server answers to `SHOW cluster_name`; none before there is a clone.
    pub fn identity(&self) -> Option<String> {
        self.clone.as_ref().map(CloneName::identity)
    }

    /// The view of this record; `progress` is of the base's copy, `generation` grows with each view.
    pub fn view(&self, progress: Option<CopyProgress>, generation: u64) -> BranchView {
        let failure = match &self.state {
            State::Failing(failure) | State::Failed(failure) => Some(failure),
            State::AwaitingSnapshot
            | State::Cloning { .. }
            | State::Starting { .. }
            | State::Ready { .. }
            | State::FallingAsleep { .. }
            | State::Asleep { .. }
            | State::Deleting(_)
            | State::Gone => None,
        };
        let phase = phase(&self.state);
        BranchView {
            name: self.name.clone(),
            id: self.id.clone(),
            namespace: self.namespace.clone(),
            phase,
            spec: self.spec.view(),
            ttl_seconds: self.hold.ttl(),
            created_at: self.created_at,
            ready_at: self.ready_at,
            expires_at: self.hold.expires_at(),
            sessions: self.hold.sessions(),
            endpoint: (phase == BranchPhase::Ready).then(|| format!("127.0.0.1:{}", self.port)),
            asleep: matches!(self.state, State::Asleep { .. }),
            identity: self.identity(),
            version: self.origin.as_ref().map(|origin| origin.image.major),
            base: self.origin.as_ref().map(|origin| origin.base.clone()),
            progress: progress.filter(|_| phase == BranchPhase::Copying),
            connections: 0,
            connections_total: 0,
            disk_bytes: None,
            shared_bytes: None,
            message: failure.map(|failure| failure.message.clone()),
            hint: failure.and_then(|failure| failure.hint.clone()),
            generation,
        }
    }
}
