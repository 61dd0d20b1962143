//! A branch of a PostgreSQL database, as written.

use std::collections::BTreeMap;
use std::time::Duration;

use model::ttl::TTL_MAX_DEFAULT;
use model::{BranchId, Ttl};

use super::copy::WrittenCopy;
use super::iam_auth::IamAuth;
use super::migrations::Migrations;
use super::version::{Image, Version};
use super::{DbBranch, NotEmpty};
use crate::connection::{Connection, Origin, Param};
use crate::decode::{Decode, NotNull, Record, Report, record};
use crate::diagnostic::Weight;
use crate::tree::Node;

/// Seconds that a session waits for a branch unless its file says otherwise.
const CREATION_TIMEOUT_SECS: u64 = 60;

/// Parameters that would undo the branch's address or user in the URL that the process gets.
const ADDRESS_PARAMS: [&str; 8] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "service",
    "servicefile",
];

record! {
    /// The keys of a branch.
    struct WrittenPg {
        /// Says which database this is.
        kind as "type": String,
        /// Finds the branch again.
        id: Option<BranchId>,
        /// The database within the source.
        name: Option<NotEmpty>,
        /// Seconds that it outlives its last session.
        ttl_secs: Option<u64>,
        /// The same in minutes.
        ttl_mins: Option<u64>,
        /// Seconds that the session waits for it.
        creation_timeout_secs: NotNull<u64>,
        /// The version of PostgreSQL.
        version: Option<Version>,
        /// An image with it.
        image: Option<Image>,
        /// An administrator's settings, by name.
        profile: Option<NotEmpty>,
        /// Where the source is found.
        connection: Connection,
        /// What it holds at its start.
        copy: NotNull<WrittenCopy>,
        /// How to log in to the source at a cloud provider.
        iam_auth: Option<IamAuth>,
        /// Settings for every connection to the source.
        connection_settings: Option<BTreeMap<String, String>>,
        /// Parameters for the URLs that the process gets.
        query_params: Option<BTreeMap<String, String>>,
        /// What to run on the branch before the session.
        migrations: Option<Migrations>,
    }
}

/// A branch of a PostgreSQL database, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PgBranch {
    pub(crate) id: Option<BranchId>,
    name: Option<String>,
    ttl: Ttl,
    creation_timeout: Duration,
    version: Option<Version>,
    image: Option<Image>,
    connection: Connection,
    copy: Option<WrittenCopy>,
    connection_settings: BTreeMap<String, String>,
    query_params: BTreeMap<String, String>,
}

impl Decode for PgBranch {
    const EXPECTED: &'static str = "an object";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        // Checked first and alone, so that errors of other keys hide none of these.
        let exclusive = check_exclusive(node, report);
        let settings = check_settings(node, report);
        let written = WrittenPg::decode(node, report)?;
        let ttl = read_ttl(&written, node, report);
        if written.migrations.is_some()
            && written.name.is_none()
            && let Some(migrations) = node.get("migrations")
        {
            report
                .problem(&migrations, "migrations need the database's \"name\"")
                .hint("add \"name\" to the branch");
            return None;
        }
        if !(exclusive && settings) {
            return None;
        }
        Some(Self {
            id: written.id,
            name: written.name.map(|NotEmpty(name)| name),
            ttl: ttl?,
            creation_timeout: Duration::from_secs(
                written
                    .creation_timeout_secs
                    .0
                    .unwrap_or(CREATION_TIMEOUT_SECS),
            ),
            version: written.version,
            image: written.image,
            connection: written.connection,
            copy: written.copy.0,
            connection_settings: written.connection_settings.unwrap_or_default(),
            query_params: written.query_params.unwrap_or_default(),
        })
    }
}

/// Pairs of keys of which one may be given.
fn check_exclusive(node: &Node<'_>, report: &mut Report) -> bool {
    let mut good = true;
    for (first, second) in [("ttl_secs", "ttl_mins"), ("version", "image")] {
        let given = |key: &str| node.get(key).filter(|value| !value.is_null());
        if let (Some(_), Some(value)) = (given(first), given(second)) {
            report
                .problem(
                    &value,
                    format!("{first:?} and {second:?} exclude each other"),
                )
                .hint("keep one of them");
            good = false;
        }
    }
    good
}

fn read_ttl(written: &WrittenPg, node: &Node<'_>, report: &mut Report) -> Option<Ttl> {
    let (key, seconds) = match (written.ttl_secs, written.ttl_mins) {
        (Some(seconds), _) => ("ttl_secs", seconds),
        (None, Some(minutes)) => ("ttl_mins", minutes.saturating_mul(60)),
        (None, None) => return Some(Ttl::default()),
    };
    let value = node.get(key)?;
    if seconds == 0 {
        report.problem(&value, "a branch that lives for no time cannot be used");
        return None;
    }
    let ttl = Ttl(seconds);
    if ttl > TTL_MAX_DEFAULT {
        report
            .warning(&value, format!("more than {TTL_MAX_DEFAULT}: refused unless an administrator has raised the maximum"))
            .hint(format!("write at most {}", TTL_MAX_DEFAULT.0));
    }
    Some(ttl)
}

/// Names of settings and parameters: what would be another statement or lead to another server is refused.
fn check_settings(node: &Node<'_>, report: &mut Report) -> bool {
    let before = report.problems.len();
    for member in node
        .get("connection_settings")
        .iter()
        .flat_map(Node::members)
    {
        if !is_setting_name(&member.key) {
            report
                .problem_at(
                    format!("{}.connection_settings", node.path),
                    &member.key_span,
                    format!("{:?} is no name of a setting", member.key),
                )
                .hint("write a setting such as \"statement_timeout\" or \"app.tenant\"");
        }
    }
    for member in node.get("query_params").iter().flat_map(Node::members) {
        if member.key.is_empty() || ADDRESS_PARAMS.contains(&member.key.to_lowercase().as_str()) {
            report
                .problem_at(
                    format!("{}.query_params", node.path),
                    &member.key_span,
                    format!("{:?} may not be set: the branch has its own", member.key),
                )
                .hint("remove it: the address is set for you, user and password stay the application's");
        }
    }
    report.problems.len() == before
}

/// PostgreSQL documentation, section 20.1.1: identifiers with dots between them.
fn is_setting_name(name: &str) -> bool {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
    };
    name.split('.').all(is_identifier)
}

impl PgBranch {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What of the branch this version cannot do.
    pub(super) fn tell_lacking(&self, node: &Node<'_>, report: &mut Report) {
        let mut refuse = |key: &str, effect: &str| {
            if let Some(value) = node.get(key).filter(|value| !value.is_null()) {
                report.lacks(&value, Weight::Refused, effect);
            }
        };
        refuse("profile", "profiles are not supported yet");
        refuse(
            "iam_auth",
            "logging in to a source by a cloud provider's identity is not supported yet",
        );
        refuse(
            "migrations",
            "migrations are not run yet: run them in the session",
        );
        if self
            .version
            .as_ref()
            .is_some_and(|version| version.major().is_none())
        {
            refuse(
                "version",
                "this names no version of PostgreSQL, such as \"16\"",
            );
        }
        match self.image.as_ref().map(Image::major) {
            None => {}
            Some(Some(_)) => {
                if let Some(image) = node.get("image") {
                    report.lacks(
                        &image,
                        Weight::Told,
                        "only its version counts: branches run this machine's PostgreSQL of that version",
                    );
                }
            }
            Some(None) => refuse(
                "image",
                "images other than \"postgres:VERSION\" are not supported yet",
            ),
        }
        self.tell_connection(node, report);
    }

    fn tell_connection(&self, node: &Node<'_>, report: &mut Report) {
        let Some(node) = node.get("connection") else {
            return;
        };
        for (param, origin) in self.connection.origins() {
            if let Some(Param::Other(name)) = param {
                report.lacks(
                    &node,
                    Weight::Refused,
                    format!("the param {name:?} means nothing for PostgreSQL"),
                );
            }
            match origin {
                Origin::Secret { name, .. } => report.lacks(
                    &node,
                    Weight::Refused,
                    format!("the Secret {name:?} can be read in a cluster only: name a variable"),
                ),
                Origin::GcpSecretManager { reference, .. } => report.lacks(
                    &node,
                    Weight::Refused,
                    format!("the secret {reference:?} can be read in a cluster only: name a variable"),
                ),
                Origin::Variable {
                    container: Some(container),
                    ..
                } => report.lacks(
                    &node,
                    Weight::Told,
                    format!("the container {container:?} means nothing on this machine: the target's own environment counts"),
                ),
                Origin::Variable { .. } | Origin::Pattern { .. } => {}
            }
        }
        if let Connection::Params(params) = &self.connection
            && !params.contains_key(&Param::Host)
        {
            report.lacks(
                &node,
                Weight::Refused,
                "no param names the host: the process cannot be led to the branch",
            );
        }
    }

    pub(super) fn resolve(self, id: BranchId, node: &Node<'_>) -> DbBranch {
        let version = match (&self.version, &self.image) {
            (Some(version), _) => version.major(),
            (None, Some(image)) => image.major(),
            (None, None) => None,
        };
        DbBranch {
            path: node.path.clone(),
            id,
            is_id_chosen: self.id.is_some(),
            database: self.name,
            ttl: self.ttl,
            creation_timeout: self.creation_timeout,
            version,
            connection: self.connection,
            is_copy_chosen: self.copy.is_some(),
            copy: self.copy.map(WrittenCopy::into_spec).unwrap_or_default(),
            connection_settings: self.connection_settings,
            query_params: self.query_params,
        }
    }
}

/// The keys of this shape, for the words that an excerpt may show.
pub(super) fn vocabulary() -> Vec<&'static str> {
    WrittenPg::KEYS.to_vec()
}
