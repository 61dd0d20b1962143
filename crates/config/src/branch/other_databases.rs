//! Branches of databases other than PostgreSQL: read and checked as the format has them, and refused at `exec`.
//!
//! Owns which keys, copy modes and items each of them has. One record has the keys of all: a database names its own.
//! `generic` has what is said of no database but that one.

use std::collections::BTreeMap;

use model::{BranchId, CopyMode};

use super::copy::{self, WrittenFilter};
use super::generic::{self, Readiness};
use super::iam_auth::IamAuth;
use super::migrations::{self, Migrations};
use super::ttl::{Lifetime, choose_ttl};
use super::version::{Image, Version};
use super::{CREATION_TIMEOUT_SECS, NotEmpty, check_exclusive};
use crate::connection::{Connection, params_shape};
use crate::decode::{
    Decode, Doc, NotNull, Record, RecordShape, Render, Report, Shape, quoted, record,
    report_unknown, words,
};
use crate::diagnostic::Weight;
use crate::json::Json;
use crate::tree::Node;

/// A database that can be branched elsewhere, and what the format has for it.
#[derive(Debug, PartialEq)]
pub(super) struct OtherDatabase {
    /// Its word under `type`.
    word: &'static str,
    /// Its name, and the name of its shape.
    name: &'static str,
    /// Keys that not all of them have.
    own: &'static [&'static str],
    /// Keys of `copy` beside `mode`.
    items: &'static [&'static str],
    modes: &'static [&'static str],
}

const SQL_MODES: &[&str] = &["empty", "schema", "all"];
const ITEM_MODES: &[&str] = &["empty", "all"];

const DATABASES: [OtherDatabase; 10] = [
    OtherDatabase {
        word: "mysql",
        name: "MySql",
        own: &["version", "iam_auth", "migrations"],
        items: &["tables", "dump_args"],
        modes: SQL_MODES,
    },
    OtherDatabase {
        word: "mariadb",
        name: "MariaDb",
        own: &["version", "iam_auth", "migrations"],
        items: &["tables", "dump_args"],
        modes: SQL_MODES,
    },
    OtherDatabase {
        word: "mssql",
        name: "MsSql",
        own: &["version", "migrations"],
        items: &["tables"],
        modes: SQL_MODES,
    },
    OtherDatabase {
        word: "mongodb",
        name: "MongoDb",
        own: &["version"],
        items: &["collections", "dump_args"],
        modes: ITEM_MODES,
    },
    OtherDatabase {
        word: "redis",
        name: "Redis",
        own: &["version", "location", "local"],
        items: &["patterns"],
        modes: ITEM_MODES,
    },
    OtherDatabase {
        word: "dynamodb",
        name: "DynamoDb",
        own: &["version", "iam_auth"],
        items: &["collections"],
        modes: ITEM_MODES,
    },
    OtherDatabase {
        word: "clickhouse",
        name: "ClickHouse",
        own: &["version", "migrations"],
        items: &["tables"],
        modes: SQL_MODES,
    },
    OtherDatabase {
        word: "cockroachdb",
        name: "CockroachDb",
        own: &["version", "migrations"],
        items: &["tables"],
        modes: SQL_MODES,
    },
    OtherDatabase {
        word: "spanner",
        name: "Spanner",
        own: &["version", "emulator_host"],
        items: &["tables"],
        modes: SQL_MODES,
    },
    OtherDatabase {
        word: "generic",
        name: "Generic",
        own: &["port", "command", "args", "env", "readiness"],
        items: &[],
        modes: &["empty"],
    },
];

/// Keys of every one.
const SHARED: &[&str] = &[
    "type",
    "id",
    "name",
    "ttl_secs",
    "ttl_mins",
    "creation_timeout_secs",
    "image",
    "profile",
    "connection",
    "copy",
];

words! {
    /// Where a Redis runs.
    enum Location : "\"local\" or \"remote\"" {
        /// On this machine.
        Local = "local",
        /// Where it is.
        Remote = "remote",
    }
}

record! {
    /// What the branch holds at its start.
    struct OtherCopy {
        /// How much is copied.
        /// Example: `"empty"`
        mode: CopyMode,
        /// Tables whose rows come along.
        /// Example: `{"users": {"filter": "id < 1000"}}`
        tables: Option<BTreeMap<String, WrittenFilter>>,
        /// Collections that come along.
        /// Example: `{"users": {}}`
        collections: Option<BTreeMap<String, WrittenFilter>>,
        /// Patterns of the keys that come along.
        /// Example: `["session:*"]`
        patterns: Option<Vec<String>>,
        /// Further arguments of the dump.
        /// Example: `["--skip-triggers"]`
        dump_args: Option<Vec<NotEmpty>>,
    }
}

impl Default for OtherCopy {
    fn default() -> Self {
        Self {
            mode: CopyMode::Empty,
            tables: None,
            collections: None,
            patterns: None,
            dump_args: None,
        }
    }
}

record! {
    /// Further arguments of a Redis server.
    struct RedisOptions {
        /// The arguments.
        /// Example: `["--maxmemory", "256mb"]`
        args: Vec<String> = Vec::new(),
    }
}

record! {
    /// A Redis of this machine.
    struct LocalRedis {
        /// Its port.
        /// Example: `6380`
        port: u16 = 6379,
        /// Its version.
        /// Example: `"7-alpine"`
        version: Option<Version>,
        /// What runs it: `"container"`, `"redis_server"` or `"auto"`.
        /// Example: `"container"`
        runtime: Option<String>,
        /// Which containers: `"docker"`, `"podman"` or `"nerdctl"`.
        /// Example: `"podman"`
        container_runtime: Option<String>,
        /// The program that runs containers.
        /// Example: `"/usr/bin/podman"`
        container_command: Option<String>,
        /// The program of the server.
        /// Example: `"/usr/bin/redis-server"`
        server_command: Option<String>,
        /// Further arguments.
        /// Example: `{"args": ["--maxmemory", "256mb"]}`
        options: Option<RedisOptions>,
    }
}

record! {
    /// A branch of another database.
    struct OtherKeys {
        /// Which database this is.
        kind as "type": String,
        /// Finds the branch again while it lives. Without it the session's key.
        /// Example: `"my-debug-session"`
        id: Option<BranchId>,
        /// The database within the source.
        /// Example: `"inventory"`
        name: Option<NotEmpty>,
        /// Seconds that the branch outlives its last session.
        /// Example: `600`
        ttl_secs: Option<Lifetime>,
        /// The same in minutes. Not beside `ttl_secs`.
        /// Example: `10`
        ttl_mins: Option<Lifetime>,
        /// Seconds that the session waits for the branch.
        /// Example: `120`
        creation_timeout_secs: NotNull<u64> = NotNull(CREATION_TIMEOUT_SECS),
        /// The version of the database, as an image tag. Not beside `image`.
        /// Example: `"8.0"`
        version: Option<Version>,
        /// An image with the server.
        /// Example: `"docker.io/library/influxdb:2.7"`
        image: Option<Image>,
        /// Settings of an administrator, by name.
        /// Example: `"small"`
        profile: Option<NotEmpty>,
        /// Where the source is found, and which variables lead to the branch.
        /// Example: `{"params": {"host": "CACHE_HOST", "port": "CACHE_PORT"}}`
        connection: Connection,
        /// What the branch holds at its start.
        /// Example: `{"mode": "empty"}`
        copy: NotNull<OtherCopy> = NotNull(OtherCopy::default()),
        /// How to log in to the source by a cloud provider's identity.
        /// Example: `{"type": "aws_rds"}`
        iam_auth: Option<IamAuth>,
        /// What to run on the branch before the session. Needs `name`.
        /// Example: `{"flavor": "flyway", "path": "./migrations"}`
        migrations: Option<Migrations>,
        /// Where the branch runs.
        /// Example: `"remote"`
        location: Location = Location::Remote,
        /// A branch on this machine.
        /// Example: `{"port": 6380}`
        local: Option<LocalRedis>,
        /// The variable that clients of the emulator read its address from.
        /// Example: `"SPANNER_EMULATOR_HOST"`
        emulator_host: Option<NotEmpty>,
        /// The port that the service listens on.
        /// Example: `8086`
        port: Option<u16>,
        /// The service's program.
        /// Example: `["/entrypoint.sh"]`
        command: Option<Vec<String>>,
        /// Its arguments.
        /// Example: `["--quiet"]`
        args: Option<Vec<String>>,
        /// Its environment.
        /// Example: `{"DOCKER_INFLUXDB_INIT_MODE": "setup"}`
        env: Option<BTreeMap<String, String>>,
        /// How it is known that the service is ready.
        /// Example: `{"type": "http_get", "path": "/health"}`
        readiness: Option<Readiness>,
    }
}

/// The types, for errors.
pub(super) fn types() -> impl Iterator<Item = &'static str> {
    DATABASES.iter().map(|database| database.word)
}

/// The database of a type.
pub(super) fn database_of(word: &str) -> Option<&'static OtherDatabase> {
    DATABASES.iter().find(|database| database.word == word)
}

/// The shape of each.
pub(super) fn shapes() -> impl Iterator<Item = Shape> {
    DATABASES.iter().map(OtherDatabase::shape)
}

/// A branch of another database.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OtherBranch {
    database: &'static OtherDatabase,
    keys: OtherKeys,
}

impl OtherDatabase {
    fn has(&self, key: &str) -> bool {
        SHARED.contains(&key) || self.own.contains(&key)
    }

    fn shape(&self) -> Shape {
        let mut record = OtherKeys::record_shape();
        record.name = format!("{}Branch", self.name);
        record.doc = Doc::of(&[]);
        record.doc.text = format!("A branch of a database of the type `{:?}`.", self.word);
        record.fields.retain(|field| self.has(field.key));
        for field in &mut record.fields {
            match field.key {
                "copy" => {
                    field.shape = self.copy_shape();
                    field.default = Some(Json::object([("mode", CopyMode::Empty.render())]));
                }
                "connection" if self.word == "generic" => field.shape = params_shape(),
                "image" | "port" if self.word == "generic" => field.is_required = true,
                _ => {}
            }
        }
        Shape::Record(Box::new(record)).with_word("type", self.word)
    }

    fn copy_shape(&self) -> Shape {
        let RecordShape {
            doc, mut fields, ..
        } = OtherCopy::record_shape();
        fields.retain(|field| field.key == "mode" || self.items.contains(&field.key));
        for field in &mut fields {
            if let ("mode", Shape::Words(words)) = (field.key, &mut field.shape) {
                words.retain(|(word, _)| self.modes.contains(word));
            }
        }
        Shape::Record(Box::new(RecordShape {
            name: format!("{}Copy", self.name),
            doc,
            fields,
        }))
    }
}

/// Reads a branch of `database`.
pub(super) fn decode(
    database: &'static OtherDatabase,
    node: &Node<'_>,
    report: &mut Report,
) -> Option<OtherBranch> {
    let before = report.problems.len();
    check_keys(database, node, report);
    check_exclusive(node, report);
    let keys = OtherKeys::decode(node, report)?;
    choose_ttl(keys.ttl_secs, keys.ttl_mins, node, report);
    check_copy(database, node, report);
    migrations::check_name(node, report);
    if database.word == "generic" {
        let service = generic::Service {
            image: keys.image.is_some(),
            port: keys.port.is_some(),
            name: keys.name.is_some(),
            connection: &keys.connection,
            readiness: keys.readiness.as_ref(),
        };
        generic::check(&service, node, report);
    }
    (report.problems.len() == before).then_some(OtherBranch { database, keys })
}

/// Keys of other databases are unknown here.
fn check_keys(database: &OtherDatabase, node: &Node<'_>, report: &mut Report) {
    let own: Vec<&str> = OtherKeys::KEYS
        .iter()
        .copied()
        .filter(|key| database.has(key))
        .collect();
    for member in node.members() {
        let key = member.key.as_str();
        if OtherKeys::KEYS.contains(&key) && !database.has(key) {
            report_unknown(node, member, &own, report);
            let others: Vec<&str> = DATABASES
                .iter()
                .filter(|other| other.has(key))
                .map(|other| other.word)
                .collect();
            if let Some(finding) = report.problems.last_mut() {
                finding.hint(format!("{key:?} is for branches of {}", others.join(", ")));
            }
        }
    }
}

fn check_copy(database: &OtherDatabase, node: &Node<'_>, report: &mut Report) {
    let Some(copy) = node.get("copy") else {
        return;
    };
    let keys: Vec<&str> = ["mode"]
        .into_iter()
        .chain(database.items.iter().copied())
        .collect();
    for member in copy.members() {
        let key = member.key.as_str();
        if OtherCopy::KEYS.contains(&key) && !keys.contains(&key) {
            report_unknown(&copy, member, &keys, report);
        }
    }
    let Some(mode) = copy.get("mode") else {
        return;
    };
    if mode
        .text()
        .is_some_and(|word| !database.modes.contains(&word))
    {
        report
            .problem(&mode, format!("this is no copy mode of {}", database.word))
            .hint(format!("expected one of {}", quoted(database.modes)));
    }
    copy::check_tables(&copy, report);
}

impl OtherBranch {
    pub(super) fn tell_lacking(&self, node: &Node<'_>, report: &mut Report) {
        report.lacks(
            node,
            Weight::Refused,
            format!("branches of {} are not supported yet", self.database.word),
        );
    }
}

impl Render for OtherBranch {
    fn render(&self) -> Json {
        let Json::Object(members) = self.keys.render() else {
            return Json::Null;
        };
        let own = members
            .into_iter()
            .filter(|(key, _)| self.database.has(key));
        Json::object(own.map(|(key, value)| match (key.as_str(), value) {
            ("copy", Json::Object(members)) => {
                let given = members
                    .into_iter()
                    .filter(|(_, value)| *value != Json::Null);
                ("copy".to_owned(), Json::object(given))
            }
            (_, value) => (key, value),
        }))
    }
}
