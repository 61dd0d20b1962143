//! A branch of a PostgreSQL database, as written.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BranchId, Ttl};

use super::copy::WrittenCopy;
use super::iam_auth::IamAuth;
use super::migrations::{self, Migrations};
use super::ttl::{Lifetime, choose_ttl};
use super::version::{Image, Version};
use super::{CREATION_TIMEOUT_SECS, DbBranch, NotEmpty, PG, check_exclusive};
use crate::connection::{Connection, Origin, Param};
use crate::decode::{Decode, NotNull, Record, Render, Report, Shape, record};
use crate::diagnostic::Weight;
use crate::json::Json;
use crate::support;
use crate::tree::Node;

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
    /// How fresh a branch has to be.
    struct Freshness {
        /// Data of up to this age will do, in seconds, and the source is not asked; without it the branch holds everything
        /// that was committed before it was asked for.
        /// Example: `3600`
        max_age_secs: Option<u64>,
    }
}

record! {
    /// A branch of a PostgreSQL database.
    struct WrittenPg {
        /// `"pg"`.
        kind as "type": String,
        /// Finds the branch again while it lives: the same id leads back to it. Without it the session's key.
        /// Example: `"my-debug-session"`
        id: Option<BranchId>,
        /// The database within the source; without it the one that the connection names.
        /// Example: `"inventory"`
        name: Option<NotEmpty>,
        /// Seconds that the branch outlives its last session; 300 without it. At most 900, unless an administrator has
        /// raised the maximum.
        /// Example: `600`
        ttl_secs: Option<Lifetime>,
        /// The same in minutes. Not beside `ttl_secs`.
        /// Example: `10`
        ttl_mins: Option<Lifetime>,
        /// Seconds that the session waits for the branch.
        /// Example: `120`
        creation_timeout_secs: NotNull<u64> = NotNull(CREATION_TIMEOUT_SECS),
        /// The version of PostgreSQL, as an image tag; without it the source's. Not beside `image`.
        /// Example: `"16"`
        version: Option<Version>,
        /// An image with the server: only its version counts. Not beside `version`.
        /// Example: `"postgres:16"`
        image: Option<Image>,
        /// Settings of an administrator, by name.
        /// Example: `"small"`
        profile: Option<NotEmpty>,
        /// Where the source is found, and which variables lead to the branch.
        /// Example: `{"url": "DATABASE_URL"}`
        connection: Connection,
        /// What the branch holds at its start.
        /// Example: `{"mode": "all"}`
        copy: NotNull<WrittenCopy> = NotNull(WrittenCopy::default()),
        /// How fresh its data has to be.
        /// Example: `{"max_age_secs": 3600}`
        freshness: Option<Freshness>,
        /// How to log in to the source by a cloud provider's identity.
        /// Example: `{"type": "aws_rds"}`
        iam_auth: Option<IamAuth>,
        /// Settings (GUCs) for every connection to the source while it is copied.
        /// Example: `{"app.tenant": "7"}`
        connection_settings: Option<BTreeMap<String, String>>,
        /// Parameters for the connection strings that the process gets; beside `params` only `sslmode`, where a param of
        /// that name has a variable.
        /// Example: `{"sslmode": "disable"}`
        query_params: Option<BTreeMap<String, String>>,
        /// What to run on the branch before the session. Needs `name`.
        /// Example: `{"flavor": "flyway", "path": "./migrations"}`
        migrations: Option<Migrations>,
    }
}

/// A branch of a PostgreSQL database, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PgBranch {
    written: WrittenPg,
    ttl: Ttl,
    is_copy_chosen: bool,
}

impl Decode for PgBranch {
    const EXPECTED: &'static str = "an object";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        // Checked first and alone, so that errors of other keys hide none of these.
        let exclusive = check_exclusive(node, report);
        let settings = check_settings(node, report);
        let written = WrittenPg::decode(node, report)?;
        if !(migrations::check_name(node, report) && exclusive && settings) {
            return None;
        }
        Some(Self {
            ttl: choose_ttl(written.ttl_secs, written.ttl_mins, node, report),
            is_copy_chosen: node.get("copy").is_some(),
            written,
        })
    }

    fn shape() -> Shape {
        WrittenPg::shape().with_word("type", PG)
    }
}

impl Render for PgBranch {
    /// As written, with the TTL that holds.
    fn render(&self) -> Json {
        let mut written = self.written.clone();
        if written.ttl_mins.is_none() {
            written.ttl_secs = Some(Lifetime(self.ttl.0));
        }
        written.render()
    }
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
    pub(crate) fn id(&self) -> Option<&BranchId> {
        self.written.id.as_ref()
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.written.connection
    }

    /// What of the branch this version cannot do.
    pub(super) fn tell_lacking(&self, node: &Node<'_>, report: &mut Report) {
        for (key, path) in [
            ("profile", "feature.db_branches[].profile"),
            ("iam_auth", "feature.db_branches[].iam_auth"),
            ("migrations", "feature.db_branches[].migrations"),
        ] {
            if let Some(value) = node.given(key) {
                support::tell(path, &value, report);
            }
        }
        let mut refuse = |key: &str, effect: &str| {
            if let Some(value) = node.given(key) {
                report.lacks(&value, Weight::Refused, effect);
            }
        };
        let written = &self.written;
        if written
            .version
            .as_ref()
            .is_some_and(|version| version.major().is_none())
        {
            refuse(
                "version",
                "this names no version of PostgreSQL, such as \"16\"",
            );
        }
        match written.image.as_ref().map(Image::major) {
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
        self.tell_query_params(node, report);
    }

    /// Values one by one have no string that parameters could be added to.
    fn tell_query_params(&self, node: &Node<'_>, report: &mut Report) {
        let (Connection::Params(params), Some(node)) =
            (self.connection(), node.get("query_params"))
        else {
            return;
        };
        for member in node.members() {
            if member.key != "sslmode" {
                let effect = format!(
                    "{:?} has no place in a connection by \"params\": only \"sslmode\" has one",
                    member.key
                );
                report.lacks(&node, Weight::Refused, effect);
            } else if !params.contains_key(&Param::SslMode) {
                report.lacks(
                    &node,
                    Weight::Refused,
                    "no param \"sslmode\" of the connection names the variable that it would be in",
                );
            }
        }
    }

    fn tell_connection(&self, node: &Node<'_>, report: &mut Report) {
        let Some(node) = node.get("connection") else {
            return;
        };
        for (param, origin) in self.connection().origins() {
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
        if let Connection::Params(params) = self.connection()
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
        let written = self.written;
        let version = match (&written.version, &written.image) {
            (Some(version), _) => version.major(),
            (None, Some(image)) => image.major(),
            (None, None) => None,
        };
        DbBranch {
            path: node.path.clone(),
            id,
            is_id_chosen: written.id.is_some(),
            database: written.name.map(|NotEmpty(name)| name),
            ttl: self.ttl,
            creation_timeout: Duration::from_secs(written.creation_timeout_secs.0),
            version,
            connection: written.connection,
            copy: written.copy.0.into_spec(),
            is_copy_chosen: self.is_copy_chosen,
            max_age: written
                .freshness
                .and_then(|freshness| freshness.max_age_secs)
                .map(Duration::from_secs),
            connection_settings: written.connection_settings.unwrap_or_default(),
            query_params: written.query_params.unwrap_or_default(),
        }
    }
}

/// The keys of this shape.
pub(super) fn keys() -> &'static [&'static str] {
    WrittenPg::KEYS
}
