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

use super::after_restart::Now;
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
    /// The same, accepting no older data than `other` does.
    #[must_use]
    pub fn as_young_as(mut self, other: &Self) -> Self {
        let ages = self.max_age_seconds.zip(other.max_age_seconds);
        self.max_age_seconds = ages.map(|(own, others)| own.min(others));
        self
    }

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
    /// The boot of the machine that its server's memory belongs to. None: everything is on the disk, whatever boot comes.
    pub boot_id: Option<String>,
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
    /// request named another. None before there is a clone. Which addresses its source has, and what
    /// its door asks for, others know.
    pub fn connection(&self) -> Option<BranchConnection> {
        let identity = self.identity()?;
        let address = Address {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: self.port,
        };
        let source = self.spec.url();
        let moved = source.without_proofs().with_address(&address);
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
            pass: None,
            source_addresses: Vec::new(),
        })
    }

    /// This record once the branch enters `next`.
    #[must_use]
    pub(super) fn entering(&self, next: State, now: &Now) -> Self {
        let mut record = Self {
            state: next,
            ..self.clone()
        };
        match &record.state {
            State::AwaitingSnapshot => {
                record.hold.unsettle();
                record.origin = None;
            }
            State::Ready { .. } => {
                record.hold.settle(now.time);
                record.ready_at = Some(now.time);
                record.application_access = ApplicationAccess::Told;
                record.boot_id = Some(now.boot_id.clone());
                record.unsynced_on = now.volume_mount;
            }
            State::Failed(_) => record.hold.settle(now.time),
            // Nothing of what was before is in a new clone.
            State::Cloning { .. } => {
                record.boot_id = Some(now.boot_id.clone());
                record.unsynced_on = now.volume_mount;
                record.application_access = ApplicationAccess::Inborn;
            }
            // A server that an earlier engine left may have written before this one.
            State::Starting { .. } => {
                record.unsynced_on = record.unsynced_on.or(now.volume_mount);
                record.boot_id.get_or_insert_with(|| now.boot_id.clone());
            }
            State::FallingAsleep { .. }
            | State::Asleep { .. }
            | State::Failing(_)
            | State::Deleting(_)
            | State::Gone => {}
        }
        record
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refresh::plain_spec;

    fn record_of(state: State) -> BranchRecord {
        let id = BranchId::new("a").unwrap();
        let namespace = Namespace::default();
        BranchRecord {
            name: BranchName::of(&namespace, &id),
            id,
            namespace,
            spec: plain_spec(Secret::new("postgres://u@h/d")),
            state,
            hold: Hold::new(model::Ttl(60)),
            clone: None,
            port: 20432,
            created_at: Timestamp::UNIX_EPOCH,
            ready_at: None,
            application_access: ApplicationAccess::Unsure,
            origin: None,
            boot_id: None,
            unsynced_on: None,
        }
    }

    fn now(seconds: i64) -> Now {
        Now {
            time: Timestamp::from_second(seconds).unwrap(),
            boot_id: "this boot".to_owned(),
            volume_mount: Some(7),
        }
    }

    #[test]
    fn a_branchs_ttl_counts_while_it_can_be_used_or_has_failed_alone() {
        let (snapshot, restarts) = (None, 0);
        let ready = record_of(State::AwaitingSnapshot)
            .entering(State::Ready { snapshot, restarts }, &now(100));
        assert_eq!(ready.ready_at, Some(now(100).time));
        assert_eq!(ready.hold.expires_at(), Some(now(160).time));
        assert_eq!(ready.application_access, ApplicationAccess::Told);
        let again = ready.entering(State::AwaitingSnapshot, &now(110));
        assert_eq!(again.hold.expires_at(), None);
        let failure = super::super::state::Failure {
            message: "no room".to_owned(),
            hint: None,
        };
        let failing = again.entering(State::Failing(failure.clone()), &now(120));
        assert_eq!(failing.hold.expires_at(), None);
        let failed = failing.entering(State::Failed(failure), &now(130));
        assert_eq!(failed.hold.expires_at(), Some(now(190).time));
    }

    #[test]
    fn what_an_earlier_mount_and_boot_may_have_cut_is_remembered_until_the_server_answers() {
        let (snapshot, restarts) = (None, 1);
        let earlier = BranchRecord {
            boot_id: Some("an earlier boot".to_owned()),
            unsynced_on: Some(3),
            ..record_of(State::Asleep { snapshot: None })
        };
        let starting = State::Starting {
            snapshot: snapshot.clone(),
            restarts,
        };
        let starting = earlier.entering(starting, &now(1));
        assert_eq!(starting.boot_id.as_deref(), Some("an earlier boot"));
        assert_eq!(starting.unsynced_on, Some(3));
        let ready = starting.entering(State::Ready { snapshot, restarts }, &now(2));
        assert_eq!(ready.boot_id.as_deref(), Some("this boot"));
        assert_eq!(ready.unsynced_on, Some(7));
    }

    #[test]
    fn a_branch_that_two_asked_for_is_as_young_as_either_wants_it() {
        let spec = |max_age_seconds| Spec {
            max_age_seconds,
            ..plain_spec(Secret::new("postgres://u@h/d"))
        };
        for (later, earlier, both) in [
            (Some(600), None, None),
            (None, Some(600), None),
            (Some(600), Some(60), Some(60)),
            (None, None, None),
        ] {
            let asked = spec(later).as_young_as(&spec(earlier));
            assert_eq!(asked.max_age_seconds, both, "{later:?} after {earlier:?}");
        }
    }
}
