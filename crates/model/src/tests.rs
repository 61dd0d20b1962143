//! Words, numbers and bytes that files, scripts and other programs rely on: each is written down here a second time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine_api::{BaseActivity, BaseMode, BranchPhase, ProblemKind, SessionId};
use crate::pg_startup::fatal_response;
use crate::{
    ByteSize, CopyMode, CopySpec, ExitCode, PgMajor, PgUrl, Secret, TableFilter, TargetKind,
    TargetRef, Ttl, VolumeKind,
};

fn in_json(value: impl serde::Serialize) -> String {
    let text = serde_json::to_string(&value).expect("plain data");
    text.trim_matches('"').to_owned()
}

#[test]
fn people_read_the_words_that_programs_read() {
    for mode in [CopyMode::Empty, CopyMode::Schema, CopyMode::All] {
        assert_eq!(mode.as_str(), in_json(mode));
        assert_eq!(mode.to_string(), in_json(mode));
    }
    for phase in [
        BranchPhase::Copying,
        BranchPhase::Cloning,
        BranchPhase::Starting,
        BranchPhase::Ready,
        BranchPhase::Failed,
        BranchPhase::Deleting,
    ] {
        assert_eq!(phase.as_str(), in_json(phase));
    }
    for mode in [BaseMode::Auto, BaseMode::Physical, BaseMode::Logical] {
        assert_eq!(mode.as_str(), in_json(mode));
    }
    for activity in [
        BaseActivity::Looking,
        BaseActivity::Seeding,
        BaseActivity::Following,
        BaseActivity::Waiting,
        BaseActivity::Dumping,
    ] {
        assert_eq!(activity.as_str(), in_json(activity));
    }
    for kind in VolumeKind::ALL {
        assert_eq!(kind.to_string(), in_json(kind));
    }
}

#[test]
fn the_kinds_of_volume_stand_best_first_and_two_of_them_copy() {
    assert!(VolumeKind::ALL.is_sorted());
    let copying = VolumeKind::ALL.iter().filter(|kind| !kind.has_reflinks());
    let words: Vec<&str> = copying.map(|kind| kind.as_str()).collect();
    assert_eq!(words, ["overlay with copies", "plain copy"]);
}

#[test]
fn exit_codes_are_those_that_scripts_know() {
    let codes = [
        (ExitCode::Success, 0),
        (ExitCode::Internal, 1),
        (ExitCode::Usage, 2),
        (ExitCode::Target, 3),
        (ExitCode::Branch, 4),
        (ExitCode::NotExecutable, 126),
        (ExitCode::NotFound, 127),
    ];
    for (code, number) in codes {
        assert_eq!(u8::from(code), number);
        let ours = std::process::ExitCode::from(code);
        assert_eq!(ours, std::process::ExitCode::from(number));
    }
}

#[test]
fn each_kind_of_problem_has_its_status() {
    let statuses = [
        (ProblemKind::BadRequest, 400),
        (ProblemKind::NotFound, 404),
        (ProblemKind::SpecDiffers, 409),
        (ProblemKind::Conflict, 409),
        (ProblemKind::SessionStopped, 410),
        (ProblemKind::LimitPassed, 422),
        (ProblemKind::Internal, 500),
        (ProblemKind::Source, 502),
    ];
    for (kind, status) in statuses {
        assert_eq!(kind.status(), status, "{kind:?}");
    }
}

#[test]
fn what_a_branch_holds_is_told_in_a_line() {
    let tables = BTreeMap::from([("orders".to_owned(), TableFilter::default())]);
    let spec = |mode, tables: &BTreeMap<String, TableFilter>| CopySpec {
        mode,
        tables: tables.clone(),
        dump_args: Vec::new(),
    };
    let none = BTreeMap::new();
    for (spec, told) in [
        (CopySpec::all(), "all: structure and every row"),
        (spec(CopyMode::Schema, &none), "schema: structure, no rows"),
        (
            spec(CopyMode::Schema, &tables),
            "schema: structure, and rows of 1 table(s)",
        ),
        (CopySpec::default(), "empty: no tables, no rows"),
        (
            spec(CopyMode::Empty, &tables),
            "empty: 1 table(s) with their rows, nothing else",
        ),
    ] {
        assert_eq!(spec.describe(), told);
    }
    let dumped = CopySpec {
        dump_args: vec!["-T".to_owned(), "audit".to_owned()],
        ..CopySpec::all()
    };
    let told = "all: structure and every row, dumped with -T audit";
    assert_eq!(dumped.describe(), told);
}

#[test]
fn a_refusal_is_one_message_of_the_protocol() {
    let mut expected = b"E\0\0\0\x23".to_vec();
    expected.extend_from_slice(b"SFATAL\0VFATAL\0C08004\0Mgo away\0\0");
    assert_eq!(fatal_response("08004", "go away"), expected);
}

#[test]
fn a_password_is_not_shown_in_any_form_of_a_url() {
    for (text, shown) in [
        ("postgres://u:hush@h/d", "postgres://u:***@h/d"),
        (
            "postgres://u@h/d?password=hush&a=1",
            "postgres://u@h/d?password=***&a=1",
        ),
        ("host=h password=hush", "host=h password=***"),
        ("host=h user=u", "host=h user=u"),
    ] {
        let url = PgUrl::parse(text).expect("a URL");
        assert_eq!(url.redacted(), shown);
        assert_eq!(format!("{url:?}"), format!("PgUrl({shown})"));
    }
}

#[test]
fn what_a_uri_says_in_its_query_is_found_and_rewritten_there() {
    let url = PgUrl::parse("postgres://u@/d?host=/run/pg&port=6001").expect("a URL");
    let address = url.address();
    assert_eq!((address.host.as_str(), address.port), ("/run/pg", 6001));
    let url = PgUrl::parse("postgres://u@h/?a=1&dbname=d").expect("a URL");
    let renamed = url.with_database("e").reveal();
    assert_eq!(renamed, "postgres://u@h/?a=1&dbname=e");
}

#[test]
fn pairs_are_read_and_written_as_libpq_has_them() {
    let url = PgUrl::parse(r"host=h user=a'b password='it\'s' options=a\\b").expect("a URL");
    assert_eq!(url.user().as_deref(), Some("a'b"));
    assert_eq!(url.password().expect("it has one").reveal(), "it's");
    let options = [("options".to_owned(), r"a\b".to_owned())];
    assert_eq!(url.options(), options);
    let again = PgUrl::parse(&url.reveal()).expect("what is written can be read");
    assert_eq!(again, url);
    assert!(url.reveal().contains(r"user='a\'b'"));
}

#[test]
fn units_stand_for_what_their_tables_say() {
    for (unit, bytes) in [
        ("K", 1_024),
        ("k", 1_024),
        ("KiB", 1_024),
        ("M", 1_048_576),
        ("MiB", 1_048_576),
        ("G", 1_073_741_824),
        ("GiB", 1_073_741_824),
        ("T", 1_099_511_627_776),
        ("TiB", 1_099_511_627_776),
        ("PiB", 1_125_899_906_842_624),
        ("kB", 1_000),
        ("TB", 1_000_000_000_000),
    ] {
        assert_eq!(format!("1{unit}").parse(), Ok(ByteSize(bytes)), "{unit}");
    }
}

#[test]
fn a_target_is_written_as_it_was_read() {
    let text = "deployment/inventory/container/app";
    let target: TargetRef = text.parse().expect("a target");
    assert_eq!(String::from(target.clone()), text);
    assert_eq!(in_json(target), text);
    let words: Vec<&str> = TargetKind::words().collect();
    assert!(words.contains(&"deployment") && words.contains(&"pod"));
    let known = |word: &&str| TargetKind::from_word(word).is_some();
    assert!(words.iter().all(known));
}

#[test]
fn small_words_show_what_they_hold() {
    assert_eq!(Ttl(90).duration(), Duration::from_secs(90));
    assert_eq!(Ttl(90).to_string(), "90 s");
    assert_eq!(PgMajor(16).to_string(), "16");
    assert_eq!(SessionId::random(0xab).to_string(), "00000000000000ab");
    let parse = |text: &str| SessionId::try_from(text.to_owned());
    assert_eq!(parse("s-1.a").map(String::from).as_deref(), Ok("s-1.a"));
    for wrong in [
        "",
        "a b",
        "a/b",
        "a?b",
        "..",
        "-a",
        "A",
        "\u{e4}",
        &"a".repeat(254),
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(Secret::from("hush".to_owned()).reveal(), "hush");
}
