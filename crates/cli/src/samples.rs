//! Views as an engine tells them, for this crate's unit tests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::engine_api::{BaseView, BranchPhase, BranchView, Freshness, SpecView};
use model::{BranchId, BranchName, ByteSize, CopySpec, Namespace, PgMajor, Ttl};

/// The moment that samples were made at, long past.
pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_600_000_000).expect("a second of this century")
}

/// The moment that samples expire at, far ahead.
pub(crate) fn end() -> Timestamp {
    Timestamp::from_second(4_000_000_000).expect("a second of the next century")
}

/// A ready branch that nobody holds.
pub(crate) fn branch(namespace: &str, id: &str) -> BranchView {
    let namespace = Namespace::new(namespace).expect("a DNS label");
    let id = BranchId::new(id).expect("a printable id");
    let name = BranchName::of(&namespace, &id);
    BranchView {
        asleep: false,
        identity: Some(format!("bough-{name}")),
        name,
        id,
        namespace,
        phase: BranchPhase::Ready,
        spec: SpecView {
            source: "db:5432".to_owned(),
            network: None,
            database: "inventory".to_owned(),
            user: "app".to_owned(),
            copy: CopySpec::all(),
            version: Some(PgMajor(16)),
            connection_settings: BTreeMap::new(),
        },
        ttl_seconds: Ttl(300),
        created_at: start(),
        ready_at: Some(start()),
        expires_at: Some(end()),
        sessions: Vec::new(),
        endpoint: Some("127.0.0.1:40001".to_owned()),
        version: Some(PgMajor(16)),
        base: Some(BaseView {
            position: "0/16B3748".to_owned(),
            taken_at: start(),
            freshness: Freshness::Copied,
            lag_milliseconds: None,
            source_version: PgMajor(16),
            roles_without_password: vec!["reporting".to_owned()],
            notes: Vec::new(),
        }),
        progress: None,
        connections: 0,
        connections_total: 0,
        disk_bytes: Some(ByteSize(1_200_000)),
        shared_bytes: Some(ByteSize(48_300_000)),
        message: None,
        hint: None,
        generation: 1,
    }
}
