//! The `pg_dump` arguments that a user may add, and what they select.
//!
//! Owns the list: what is not on it is refused by name, for an argument that `pg_dump` reads otherwise than we do could
//! write files, leave the snapshot or copy less than is said. Leaves building the whole command line to `dump`.

use model::{CopyMode, CopySpec};

use super::pattern::Pattern;

/// Why a spec cannot be copied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An argument that would break the copy.
    #[error("dump_args: {argument} cannot be used: {reason}")]
    Refused {
        /// The argument.
        argument: String,
        /// Why.
        reason: &'static str,
    },
    /// No argument of `pg_dump`, or one that is not known to be safe.
    #[error("dump_args: {argument} is not an argument that can be passed on to pg_dump")]
    Unknown {
        /// The argument.
        argument: String,
    },
    /// An argument without its value.
    #[error("dump_args: {argument} needs a value")]
    NoValue {
        /// The argument.
        argument: String,
    },
    /// A value for an argument that takes none.
    #[error("dump_args: {argument} takes no value")]
    Value {
        /// The argument.
        argument: String,
    },
    /// A pattern that is none.
    #[error("dump_args: {pattern:?} is no pattern of pg_dump's")]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// Row filters where every row is copied.
    #[error("tables cannot be used with the copy mode all, which copies every row")]
    TablesWithAll,
    /// A table without a name.
    #[error("tables: a table without a name")]
    NoName,
    /// A filter that is only blanks.
    #[error("tables: the filter of {table} is empty")]
    EmptyFilter {
        /// The table.
        table: String,
    },
}

impl SpecError {
    /// One thing to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { .. } | Self::Unknown { .. } => {
                Some("leave it out of dump_args; what can be used is in the documentation of copy.dump_args".into())
            }
            Self::TablesWithAll => Some("use the copy mode schema, or leave tables out".into()),
            Self::EmptyFilter { .. } => Some("leave the filter out to copy every row".into()),
            Self::NoValue { .. } | Self::Value { .. } | Self::Pattern { .. } | Self::NoName => None,
        }
    }
}

/// What an argument does to the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
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
}

#[derive(Debug, Clone, Copy)]
struct Known {
    long: &'static str,
    short: Option<char>,
    takes_value: bool,
    effect: Effect,
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
    flag("no-owner", Some('O'), Effect::None),
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
const REFUSED: [(&[&str], &str); 9] = [
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

/// What the arguments select of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    schemas: Vec<Pattern>,
    schemas_left_out: Vec<Pattern>,
    tables: Vec<Pattern>,
    tables_left_out: Vec<Pattern>,
    rows_left_out: Vec<Pattern>,
    large_objects: Option<bool>,
    /// Whether extensions are selected, so that some of the source's may stay away.
    pub(super) selects_extensions: bool,
    /// Whether hidden rows are accepted.
    pub(super) row_security: bool,
    /// Whether rows of partitions come through their root.
    pub(super) through_roots: bool,
}

/// Relations that a dump has: users', less those of extensions but their configuration tables.
const DUMPED: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't' \
     AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
       AND d.objid = c.oid AND d.deptype = 'e') \
     OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))";

impl Selection {
    /// Reads the arguments of a spec.
    ///
    /// # Errors
    /// [`SpecError`] names the first that cannot be used.
    pub(super) fn read(arguments: &[String]) -> Result<Self, SpecError> {
        let mut selection = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            for (known, value) in take(argument, &mut rest)? {
                selection.apply(known, value)?;
            }
        }
        Ok(selection)
    }

    fn apply(&mut self, known: Known, value: Option<&str>) -> Result<(), SpecError> {
        let patterns = match known.effect {
            Effect::None => return Ok(()),
            Effect::Schemas => &mut self.schemas,
            Effect::SchemasLeftOut => &mut self.schemas_left_out,
            Effect::Tables => &mut self.tables,
            Effect::TablesLeftOut => &mut self.tables_left_out,
            Effect::RowsLeftOut => &mut self.rows_left_out,
            Effect::Extensions => {
                self.selects_extensions = true;
                return Ok(());
            }
            Effect::RowSecurity => {
                self.row_security = true;
                return Ok(());
            }
            Effect::WithLargeObjects => {
                self.large_objects = Some(true);
                return Ok(());
            }
            Effect::WithoutLargeObjects => {
                self.large_objects = Some(false);
                return Ok(());
            }
            Effect::ThroughRoots => {
                self.through_roots = true;
                return Ok(());
            }
        };
        let pattern = value.unwrap_or_default();
        let parsed = Pattern::parse(pattern).ok_or_else(|| SpecError::Pattern {
            pattern: pattern.to_owned(),
        })?;
        patterns.push(parsed);
        Ok(())
    }

    /// The condition on a relation `c` in `n` whose structure is copied, as `pg_dump` decides it: with `--table`,
    /// schemas do not count.
    pub(super) fn condition(&self) -> String {
        let mut conditions = vec![DUMPED.to_owned()];
        if !self.tables.is_empty() {
            conditions.push(any(&self.tables, Pattern::relation_condition));
        } else {
            if !self.schemas.is_empty() {
                conditions.push(any(&self.schemas, Pattern::schema_condition));
            }
            if !self.schemas_left_out.is_empty() {
                let left_out = any(&self.schemas_left_out, Pattern::schema_condition);
                conditions.push(format!("NOT {left_out}"));
            }
        }
        if !self.tables_left_out.is_empty() {
            let left_out = any(&self.tables_left_out, Pattern::relation_condition);
            conditions.push(format!("NOT {left_out}"));
        }
        conditions.join(" AND ")
    }

    /// The same for relations whose rows are copied too.
    pub(super) fn rows_condition(&self) -> String {
        let condition = self.condition();
        if self.rows_left_out.is_empty() {
            return condition;
        }
        let left_out = any(&self.rows_left_out, Pattern::relation_condition);
        format!("{condition} AND NOT {left_out}")
    }

    /// Whether large objects are copied: with a selection only when asked for.
    pub(super) fn has_large_objects(&self) -> bool {
        let is_everything =
            self.schemas.is_empty() && self.tables.is_empty() && !self.selects_extensions;
        self.large_objects.unwrap_or(is_everything)
    }

    /// Whether it leaves anything of the structure out.
    pub(super) fn is_partial(&self) -> bool {
        let lists = [
            &self.schemas,
            &self.schemas_left_out,
            &self.tables,
            &self.tables_left_out,
        ];
        self.selects_extensions || lists.iter().any(|list| !list.is_empty())
    }
}

fn any(patterns: &[Pattern], condition: fn(&Pattern) -> String) -> String {
    let conditions: Vec<_> = patterns.iter().map(condition).collect();
    format!("({})", conditions.join(" OR "))
}

/// Whether a spec can be copied, as far as that is known without a source.
///
/// # Errors
/// [`SpecError`] says what cannot be.
pub fn check_spec(spec: &CopySpec) -> Result<(), SpecError> {
    let selection = Selection::read(&spec.dump_args)?;
    if spec.mode == CopyMode::All && !spec.tables.is_empty() {
        return Err(SpecError::TablesWithAll);
    }
    if spec.mode == CopyMode::Empty && selection.is_partial() {
        return Err(SpecError::Refused {
            argument: spec.dump_args.join(" "),
            reason: "the copy mode empty has what tables names and nothing else",
        });
    }
    for (table, filter) in &spec.tables {
        if table.trim().is_empty() {
            return Err(SpecError::NoName);
        }
        if filter
            .filter
            .as_ref()
            .is_some_and(|filter| filter.trim().is_empty())
        {
            let table = table.clone();
            return Err(SpecError::EmptyFilter { table });
        }
    }
    Ok(())
}

/// One argument as `getopt_long` takes it apart: `--long`, `--long=value`, `--long value`, `-xO`, `-nvalue`, `-n value`.
fn take<'a>(
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

#[cfg(test)]
mod tests {
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
}
