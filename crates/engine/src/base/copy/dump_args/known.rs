//! The arguments of `pg_dump` that are known, and taking them apart.
//!
//! Source: PostgreSQL documentation, `pg_dump`, of versions 15 to 18.

use super::SpecError;

/// What an argument does to the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that we have to know.
    None,
    Schemas,
    SchemasLeftOut,
    Tables,
    TablesLeftOut,
    RowsLeftOut,
    Extensions,
    RowSecurity,
    WithLargeObjects,
    WithoutLargeObjects,
    ThroughRoots,
    WithoutOwners,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) takes_value: bool,
    pub(super) effect: Effect,
}

const fn flag(long: &'static str, short: Option<char>, effect: Effect) -> Known {
    Known {
        long,
        short,
        takes_value: false,
        effect,
    }
}

const fn valued(long: &'static str, short: Option<char>, effect: Effect) -> Known {
    Known {
        long,
        short,
        takes_value: true,
        effect,
    }
}

/// Arguments of `pg_dump` 15 to 18 that leave the copy whole, or select part of it.
const KNOWN: [Known; 46] = [
    flag("attribute-inserts", None, Effect::None),
    flag("blobs", Some('b'), Effect::WithLargeObjects),
    flag("column-inserts", None, Effect::None),
    flag("disable-dollar-quoting", None, Effect::None),
    flag("disable-triggers", None, Effect::None),
    flag("enable-row-security", None, Effect::RowSecurity),
    valued("exclude-extension", None, Effect::Extensions),
    valued("exclude-schema", Some('N'), Effect::SchemasLeftOut),
    valued("exclude-table", Some('T'), Effect::TablesLeftOut),
    valued("exclude-table-and-children", None, Effect::TablesLeftOut),
    valued("exclude-table-data", None, Effect::RowsLeftOut),
    valued("exclude-table-data-and-children", None, Effect::RowsLeftOut),
    valued("extension", Some('e'), Effect::Extensions),
    valued("extra-float-digits", None, Effect::None),
    valued("include-foreign-data", None, Effect::None),
    flag("inserts", None, Effect::None),
    flag("large-objects", None, Effect::WithLargeObjects),
    flag("load-via-partition-root", None, Effect::ThroughRoots),
    flag("no-acl", None, Effect::None),
    flag("no-blobs", Some('B'), Effect::WithoutLargeObjects),
    flag("no-comments", None, Effect::None),
    flag("no-large-objects", None, Effect::WithoutLargeObjects),
    flag("no-owner", Some('O'), Effect::WithoutOwners),
    flag("no-policies", None, Effect::None),
    flag("no-privileges", Some('x'), Effect::None),
    flag("no-publications", None, Effect::None),
    flag("no-security-labels", None, Effect::None),
    flag("no-statistics", None, Effect::None),
    flag("no-subscriptions", None, Effect::None),
    flag("no-sync", None, Effect::None),
    flag("no-table-access-method", None, Effect::None),
    flag("no-tablespaces", None, Effect::None),
    flag("no-toast-compression", None, Effect::None),
    flag("no-unlogged-table-data", None, Effect::None),
    flag("on-conflict-do-nothing", None, Effect::None),
    flag("quote-all-identifiers", None, Effect::None),
    valued("rows-per-insert", None, Effect::None),
    valued("schema", Some('n'), Effect::Schemas),
    flag("sequence-data", None, Effect::None),
    flag("statistics", None, Effect::None),
    flag("strict-names", None, Effect::None),
    valued("superuser", Some('S'), Effect::None),
    valued("table", Some('t'), Effect::Tables),
    valued("table-and-children", None, Effect::Tables),
    flag("use-set-session-authorization", None, Effect::None),
    flag("verbose", Some('v'), Effect::None),
];

/// Arguments that people may try, with what is wrong with them.
pub(super) const REFUSED: [(&[&str], &str); 9] = [
    (
        &["-f", "--file", "-F", "--format", "-Z", "--compress"],
        "the dump is not written to a file",
    ),
    (
        &[
            "-d",
            "--dbname",
            "-h",
            "--host",
            "-p",
            "--port",
            "-U",
            "--username",
            "-w",
            "--no-password",
            "-W",
            "--password",
        ],
        "the connection is the source's",
    ),
    (
        &[
            "-j",
            "--jobs",
            "--snapshot",
            "--serializable-deferrable",
            "--lock-wait-timeout",
        ],
        "the copy is one snapshot of ours",
    ),
    (
        &["-c", "--clean", "--if-exists", "-C", "--create"],
        "the database is made by the copy",
    ),
    (
        &[
            "-a",
            "--data-only",
            "-s",
            "--schema-only",
            "--section",
            "--no-data",
            "--no-schema",
            "--statistics-only",
        ],
        "the copy mode says what is copied",
    ),
    (
        &["--filter"],
        "it would read a file on the engine's machine",
    ),
    (
        &["-E", "--encoding", "--role", "--restrict-key"],
        "the copy sets it",
    ),
    (&["--binary-upgrade"], "it is for pg_upgrade alone"),
    (&["-V", "--version", "-?", "--help"], "it copies nothing"),
];

/// One argument as `getopt_long` takes it apart: `--long`, `--long=value`, `--long value`, `-xO`, `-nvalue`, `-n value`.
pub(super) fn take<'a>(
    argument: &'a str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<Vec<(Known, Option<&'a str>)>, SpecError> {
    if let Some(long) = argument.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let known = find(&format!("--{name}"), |known| known.long == name)?;
        let value = match (known.takes_value, value) {
            (true, Some(value)) => Some(value),
            (true, None) => Some(next_value(argument, rest)?),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(SpecError::Value {
                    argument: format!("--{name}"),
                });
            }
        };
        return Ok(vec![(known, value)]);
    }
    let Some(letters) = argument
        .strip_prefix('-')
        .filter(|letters| !letters.is_empty())
    else {
        return Err(SpecError::Unknown {
            argument: argument.to_owned(),
        });
    };
    let mut taken = Vec::new();
    for (at, letter) in letters.char_indices() {
        let known = find(&format!("-{letter}"), |known| known.short == Some(letter))?;
        if !known.takes_value {
            taken.push((known, None));
            continue;
        }
        let behind = &letters[at + letter.len_utf8()..];
        let value = if behind.is_empty() {
            next_value(argument, rest)?
        } else {
            behind
        };
        taken.push((known, Some(value)));
        break;
    }
    Ok(taken)
}

fn next_value<'a>(
    argument: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<&'a str, SpecError> {
    let value = rest.next().map(String::as_str);
    value.ok_or_else(|| SpecError::NoValue {
        argument: argument.to_owned(),
    })
}

fn find(argument: &str, is_it: impl Fn(&Known) -> bool) -> Result<Known, SpecError> {
    if let Some(known) = KNOWN.iter().find(|known| is_it(known)) {
        return Ok(*known);
    }
    let argument = argument.to_owned();
    let refused = REFUSED
        .iter()
        .find(|(names, _)| names.contains(&argument.as_str()));
    Err(match refused {
        Some((_, reason)) => SpecError::Refused { argument, reason },
        None => SpecError::Unknown { argument },
    })
}
