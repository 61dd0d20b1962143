//! Arguments as users write them, good and bad.

use super::known::REFUSED;
use super::*;

fn read(arguments: &[&str]) -> Result<Selection, SpecError> {
    let arguments: Vec<_> = arguments
        .iter()
        .map(|argument| (*argument).to_owned())
        .collect();
    Selection::read(&arguments)
}

#[test]
fn arguments_are_taken_apart_as_getopt_does() {
    let one = read(&[
        "--schema=sales",
        "-Ox",
        "-N",
        "old",
        "-Tlog",
        "--exclude-table-data",
        "audit",
    ]);
    let other = read(&[
        "-nsales",
        "-x",
        "-O",
        "--exclude-schema",
        "old",
        "-T",
        "log",
        "--exclude-table-data=audit",
    ]);
    assert_eq!(one, other);
    let selection = one.unwrap();
    assert!(selection.condition().contains("n.nspname ~ '^(sales)$'"));
    assert!(selection.condition().contains("NOT (n.nspname ~ '^(old)$'"));
    assert!(!selection.condition().contains("audit"));
    assert!(selection.rows_condition().contains("audit"));
    assert!(!selection.has_large_objects());
}

#[test]
fn what_would_break_the_copy_is_refused_by_name() {
    for (arguments, named) in [
        (&["-f", "/etc/passwd"][..], "-f"),
        (&["--file=/etc/passwd"], "--file"),
        (&["-Of/etc/passwd"], "-f"),
        (&["--fil=/etc/passwd"], "--fil"),
        (&["--filter=x"], "--filter"),
        (&["-Fc"], "-F"),
        (&["--jobs=4"], "--jobs"),
        (&["--snapshot=x"], "--snapshot"),
        (&["-C"], "-C"),
        (&["--clean"], "--clean"),
        (&["other_database"], "other_database"),
        (&["-"], "-"),
        (&["--"], "--"),
    ] {
        let error = read(arguments).unwrap_err();
        assert!(error.to_string().contains(named), "{arguments:?}: {error}");
        assert!(error.hint().is_some());
    }
    for (names, _) in REFUSED {
        for name in names {
            assert!(
                matches!(read(&[name]), Err(SpecError::Refused { .. })),
                "{name}"
            );
        }
    }
}

#[test]
fn values_are_there_where_they_are_needed_and_nowhere_else() {
    let no_value = Err(SpecError::NoValue {
        argument: "-n".to_owned(),
    });
    assert_eq!(read(&["-n"]), no_value);
    assert!(matches!(
        read(&["--no-owner=yes"]),
        Err(SpecError::Value { .. })
    ));
    assert!(matches!(
        read(&["--table=a.b.c"]),
        Err(SpecError::Pattern { .. })
    ));
}

#[test]
fn a_spec_is_checked_whole() {
    let spec = |mode, tables: &[(&str, Option<&str>)], arguments: &[&str]| CopySpec {
        mode,
        tables: tables
            .iter()
            .map(|(table, filter)| {
                let filter = filter.map(str::to_owned);
                ((*table).to_owned(), model::TableFilter { filter })
            })
            .collect(),
        dump_args: arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect(),
    };
    assert_eq!(check_spec(&CopySpec::all()), Ok(()));
    assert_eq!(
        check_spec(&spec(CopyMode::Schema, &[("t", Some("id < 5"))], &["-O"])),
        Ok(())
    );
    let refused = check_spec(&spec(CopyMode::All, &[("t", None)], &[]));
    assert_eq!(refused, Err(SpecError::TablesWithAll));
    assert!(check_spec(&spec(CopyMode::Schema, &[(" ", None)], &[])).is_err());
    assert!(check_spec(&spec(CopyMode::Schema, &[("t", Some(" \n"))], &[])).is_err());
    assert!(check_spec(&spec(CopyMode::Empty, &[("t", None)], &["-t", "u"])).is_err());
    assert_eq!(
        check_spec(&spec(CopyMode::Empty, &[("t", None)], &["--no-owner"])),
        Ok(())
    );
}
