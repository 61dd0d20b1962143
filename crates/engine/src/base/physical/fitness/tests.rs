//! The verdict, case by case.

use super::*;

#[test]
fn a_slot_that_ends_with_its_connection_only_where_the_source_is_safe_of_it() {
    let choose = |bounds, ends, free, named| {
        let traits = Traits {
            bounds_slots: bounds,
            ends_hanging_connections: ends,
            slots_free: free,
            ..traits()
        };
        choose_slot(&traits, named)
    };
    assert_eq!(choose(false, true, 1, None), SlotUse::Temporary);
    assert_eq!(choose(true, false, 1, None), SlotUse::Temporary);
    // A connection that hangs for ever would keep the source's WAL for ever.
    assert_eq!(choose(false, false, 1, None), SlotUse::None);
    assert_eq!(choose(true, true, 0, None), SlotUse::None);
    let permanent = SlotUse::Permanent("ours".to_owned());
    assert_eq!(choose(true, true, 0, Some(OURS)), permanent);
}

const OURS: NamedSlot<'_> = NamedSlot {
    name: "ours",
    unbounded: false,
};

#[test]
fn a_slot_that_is_not_there_or_not_bounded_is_refused_by_its_name() {
    let mut source = traits();
    let judged = |source: &Traits, named| judge(&facts(), source, &ours(), Some(named));
    source.bounds_slots = true;
    let name = "ours".to_owned();
    assert_eq!(
        judged(&source, OURS),
        [Reason::NoSlot { name: name.clone() }]
    );
    source.physical_slots = vec![name.clone()];
    assert_eq!(judged(&source, OURS), []);
    source.bounds_slots = false;
    assert_eq!(judged(&source, OURS), [Reason::UnboundedSlot { name }]);
    let watched = NamedSlot {
        unbounded: true,
        ..OURS
    };
    assert_eq!(judged(&source, watched), []);
}

#[test]
fn a_source_as_most_are_is_fit() {
    assert_eq!(judge(&facts(), &traits(), &ours(), None), []);
}

/// One thing that is not as it should be.
type Spoil = fn(&mut Traits, &mut Ours);

const SPOILED: [(Spoil, &str); 13] = [
    (
        |traits, _| traits.replicates = Some(false),
        "ALTER ROLE \"rep\" REPLICATION",
    ),
    (|_, ours| ours.has_server = false, "no PostgreSQL 16 server"),
    (|_, ours| ours.has_programs = false, "pg_basebackup"),
    (
        |traits, _| traits.architecture.platform = "s390x-ibm-linux-gnu".into(),
        "s390x",
    ),
    (
        |traits, _| traits.tablespaces = vec!["fast".into()],
        "tablespaces fast",
    ),
    (|traits, _| traits.wal_level = "minimal".into(), "wal_level"),
    (
        |traits, _| traits.full_page_writes = false,
        "full_page_writes",
    ),
    (|traits, _| traits.wal_senders_free = 1, "max_wal_senders"),
    (
        |traits, _| traits.takes_us_for_synchronous = true,
        "synchronous_standby_names",
    ),
    (|traits, _| traits.superuser = None, "superuser"),
    (
        |traits, _| traits.encryption = vec!["pg_tde.wal_encrypt".into()],
        "encrypts",
    ),
    (
        |traits, ours| {
            traits.resource_managers = vec!["neat".into()];
            ours.missing_libraries = vec!["neat_am".into()];
        },
        "neat_am is not installed",
    ),
    (
        |_, ours| ours.missing_locales = vec!["de_DE.UTF-8".into()],
        "de_DE.UTF-8",
    ),
];

#[test]
fn whatever_would_go_wrong_later_is_a_reason() {
    for (spoil, expected) in SPOILED {
        let (mut traits, mut ours) = (traits(), ours());
        spoil(&mut traits, &mut ours);
        let reasons = judge(&facts(), &traits, &ours, None);
        let sentences: Vec<_> = reasons.iter().map(ToString::to_string).collect();
        assert_eq!(sentences.len(), 1, "{sentences:?}");
        assert!(sentences[0].contains(expected), "{sentences:?}");
        assert!(!sentences[0].ends_with('.'), "{sentences:?}");
    }
}

#[test]
fn wal_of_a_library_that_is_here_can_be_read_and_of_one_that_is_not_known_cannot() {
    let mut known = traits();
    known.resource_managers = vec!["neat".into()];
    known.reads_libraries = true;
    assert_eq!(judge(&facts(), &known, &ours(), None), []);
    known.reads_libraries = false;
    assert_eq!(judge(&facts(), &known, &ours(), None).len(), 1);
}

#[test]
fn a_locale_is_the_same_in_both_spellings() {
    assert_eq!(plain_locale("en_US.UTF-8"), plain_locale("en_US.utf8"));
    assert_ne!(plain_locale("en_US.UTF-8"), plain_locale("en_GB.utf8"));
}

fn ours() -> Ours {
    Ours {
        has_server: true,
        has_programs: true,
        ..Ours::default()
    }
}

fn traits() -> Traits {
    let said = format!(
        "PostgreSQL 16.1 on {}-pc-linux-gnu, x",
        std::env::consts::ARCH
    );
    let text = serde_json::json!({
        "architecture": Architecture::parse(&said),
        "replicator": "rep",
        "replicates": true,
        "may_checkpoint": false,
        "wal_level": "replica",
        "full_page_writes": true,
        "shape": {"page_bytes": 8192, "segment_bytes": 16 << 20},
        "limits": {
            "max_connections": 100,
            "max_worker_processes": 8,
            "max_wal_senders": 10,
            "max_prepared_transactions": 0,
            "max_locks_per_transaction": 64,
        },
        "wal_senders_free": 10,
        "slots_free": 10,
        "physical_slots": [],
        "bounds_slots": false,
        "ends_hanging_connections": true,
        "takes_us_for_synchronous": false,
        "tablespaces": [],
        "superuser": "postgres",
        "libraries": [],
        "reads_libraries": true,
        "resource_managers": [],
        "encryption": [],
        "cluster_size": 0,
        "build": [["block_size", "8192"]],
    });
    serde_json::from_value(text).unwrap()
}

fn facts() -> Facts {
    let collation = serde_json::json!({
        "provider": "libc",
        "collate": "C",
        "ctype": "C",
        "locale": null,
        "rules": null,
        "version": null,
    });
    let text = serde_json::json!({
        "session_user": "app",
        "database": "shop",
        "version_num": 160_014,
        "major": 16,
        "system_identifier": "7",
        "in_recovery": false,
        "is_superuser": false,
        "size_bytes": 0,
        "encoding": "UTF8",
        "collation": collation,
        "extensions": [],
        "tablespaces": [],
        "subscriptions": [],
        "dropped": [],
        "settings": {},
    });
    serde_json::from_value(text).unwrap()
}
