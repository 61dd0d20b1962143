//! The `pg_dump` arguments that a user may add, and what they select.
//!
//! Owns the list: what is not on it is refused by name, for an argument that `pg_dump` reads otherwise than we do could
//! write files, leave the snapshot or copy less than is said. Leaves building the whole command line to `dump`.

mod known;

use model::{CopyMode, CopySpec};

use super::pattern::Pattern;
use known::{Effect, Known, take};

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
    /// Whether everything belongs to our own role.
    pub(super) without_owners: bool,
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
            Effect::WithoutOwners => {
                self.without_owners = true;
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

    /// The condition on a sequence `c` in `n` whose value is copied. One that a column owns comes along with its table, and
    /// an identity column's only so (`getOwnedSeqs` in `pg_dump.c`).
    pub(super) fn sequences_condition(&self) -> String {
        let condition = self.condition();
        let owned = |kinds: &str, owner: &str| {
            format!(
                "c.oid IN (SELECT d.objid FROM pg_catalog.pg_depend d \
                 JOIN pg_catalog.pg_class c ON c.oid = d.refobjid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE d.classid = 'pg_catalog.pg_class'::regclass \
                 AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ({kinds}) AND ({owner}))"
            )
        };
        let comes_along = owned("'a', 'i'", &condition);
        let is_identity = owned("'i'", "true");
        let left_out = if self.rows_left_out.is_empty() {
            "false".to_owned()
        } else {
            any(&self.rows_left_out, Pattern::relation_condition)
        };
        format!(
            "{DUMPED} AND ({comes_along} OR {condition} AND NOT {is_identity}) AND NOT {left_out}"
        )
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

/// The condition on a relation `c` in `n` that a copy of everything holds.
pub(in crate::base) fn copied_relations() -> String {
    Selection::default().condition()
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

#[cfg(test)]
mod tests;
