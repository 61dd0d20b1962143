//! Named sources: databases that branches are made from without a target.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CopyProgress;
use crate::checked_text::checked_text;
use crate::{ByteSize, PgMajor, Secret};

/// Bytes that a source's name may have at most.
pub const SOURCE_NAME_BYTES_MAX: usize = 63;

/// The name of a source: 1 to [`SOURCE_NAME_BYTES_MAX`] of letters, digits, `-`, `_` and `.`, a letter or digit first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9][-_.A-Za-z0-9]{0,62}$")]
pub struct SourceName(String);

/// A text that cannot name a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a source: 1 to {SOURCE_NAME_BYTES_MAX} letters, digits, '-', '_' and '.', a letter or digit first"
)]
pub struct SourceNameError(pub String);

impl SourceName {
    /// Checks and takes `text`.
    ///
    /// # Errors
    /// [`SourceNameError`] when it breaks the rule above.
    pub fn new(text: impl Into<String>) -> Result<Self, SourceNameError> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let well_formed = (1..=SOURCE_NAME_BYTES_MAX).contains(&text.len())
            && text.chars().all(allowed)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if well_formed {
            Ok(Self(text))
        } else {
            Err(SourceNameError(text))
        }
    }
}

checked_text!(SourceName, SourceNameError);

/// Names a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddSource {
    /// Its connection string, with the password.
    pub url: Secret,
    /// How it is copied and kept.
    #[serde(default)]
    pub care: SourceCare,
}

/// How a source is copied, and what is kept of it before anybody asks. It holds for every request that reaches the
/// source's database by one of its addresses, whether by the source's name or by a URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceCare {
    /// Further addresses of the same server, `host:port`, besides those of its URL.
    pub addresses: Vec<String>,
    /// SQL that runs in every copy before a branch can be made of it: masking, trimming, migrations. It runs as a
    /// superuser and in one transaction, unless it says otherwise itself.
    pub prepare: Option<Secret>,
    /// Clones that are kept running whether or not anybody has asked lately; 0: as the requests of the last while have it.
    pub warm: u32,
    /// After how many seconds the source is looked at again and, where it has moved, copied again; none: when a request
    /// comes.
    pub refresh_seconds: Option<u64>,
    /// Bytes a second that a copy takes from the source at most; none: as fast as it goes.
    pub rate_bytes_max: Option<ByteSize>,
    /// How its base is kept.
    pub mode: BaseMode,
    /// The connection string for replication, where that is by another role or another way than questions.
    pub replication_url: Option<Secret>,
    /// Whether a replication slot may be made where the source does not bound what it keeps (`max_slot_wal_keep_size`):
    /// an engine that is away for long could then fill the source's disk.
    pub unbounded_slot: bool,
    /// A physical replication slot of the source's that an administrator made for this base alone. It keeps what the base
    /// still needs while nothing follows; nobody here makes or drops it. Naming one asks for [`BaseMode::Physical`].
    pub slot: Option<String>,
}

/// How the base of a source is to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaseMode {
    /// Physical where the source grants and allows it, else logical.
    #[default]
    Auto,
    /// Followed file by file by a standby of ours, or not at all.
    Physical,
    /// Followed by a subscription where the source's owner publishes everything and grants a slot, else dumped, with
    /// read rights alone, and dumped again where the source has moved.
    Logical,
}

impl BaseMode {
    /// The mode's word in flags and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Physical => "physical",
            Self::Logical => "logical",
        }
    }
}

/// What the base of a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaseActivity {
    /// It is being found out whether and how the source can be followed, or a base that is here is brought back.
    Looking,
    /// The source is being copied for the first time, or again.
    Seeding,
    /// The source's changes arrive.
    Following,
    /// Nothing arrives from the source at the moment; what is here stays as good as it was.
    Waiting,
    /// Nothing follows the source: it is dumped when a branch needs it.
    Dumping,
}

impl BaseActivity {
    /// The activity's word in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Looking => "looking",
            Self::Seeding => "seeding",
            Self::Following => "following",
            Self::Waiting => "waiting",
            Self::Dumping => "dumping",
        }
    }
}

/// How a source's base is kept, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceBase {
    /// What was asked for.
    pub asked: BaseMode,
    /// What it is: never `auto`; none while that is being found out.
    pub mode: Option<BaseMode>,
    /// What it is doing.
    pub activity: BaseActivity,
    /// Why it is not kept otherwise, a sentence each: what speaks against following the source, with what would help.
    pub reasons: Vec<String>,
    /// What is otherwise than on the source, or of interest to whoever follows it, a sentence each.
    pub notes: Vec<String>,
    /// How far it has replayed its source's WAL.
    pub position: Option<String>,
    /// Since when nothing arrives.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub waiting_since: Option<Timestamp>,
    /// What was said last about that.
    pub said: Option<String>,
    /// When it was copied for the first time, or again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub seeded_at: Option<Timestamp>,
    /// What became of it last: why it was copied again, or could not be.
    pub told: Option<String>,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub told_at: Option<Timestamp>,
}

/// Everything told of a source; no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    /// Its name.
    pub name: SourceName,
    /// Its connection string, password hidden.
    pub url: String,
    /// The database that its URL leads to, as the server names it.
    pub database: String,
    /// The user that its URL leads to, as the server names it.
    pub user: String,
    /// Its major version when it was added.
    pub version: PgMajor,
    /// Its cluster's system identifier.
    pub system_identifier: String,
    /// Further addresses of the same server.
    pub addresses: Vec<String>,
    /// SHA-256 of the SQL that runs in every copy, in hexadecimal digits.
    pub prepare_sha256: Option<String>,
    /// Clones that are always kept running.
    pub warm: u32,
    /// After how many seconds it is copied again where it has moved.
    pub refresh_seconds: Option<u64>,
    /// Bytes a second that a copy takes from it at most.
    pub rate_bytes_max: Option<ByteSize>,
    /// The administrator's replication slot that its base is to follow by.
    #[serde(default)]
    pub slot: Option<String>,
    /// From when the data of its newest copy is.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub copied_at: Option<Timestamp>,
    /// When its last turn of being looked after ended; none while one is due or under way.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub looked_at: Option<Timestamp>,
    /// Why that turn failed.
    pub failure: Option<String>,
    /// How its base is kept, and how it is.
    pub base: Option<SourceBase>,
    /// The copy that is under way.
    pub progress: Option<CopyProgress>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Timestamp,
}
