//! Whether everything that a copy reads can be read, asked before anything is made.
//!
//! Owns the questions, the list of what is lacking, and the statements that would help, each of which works as it
//! stands. Leaves to `base::copy` what a copy reads.

use std::fmt;

use super::{Answer, SourceError, row, rows};
use crate::postgres::connect::Session;
use crate::postgres::sql;

/// Objects that an error names; the rest is counted.
const NAMED_MAX: usize = 5;

/// Objects of one kind in one schema up to which a GRANT names each; above it, it names the schema.
const GRANTED_BY_NAME_MAX: usize = 10;

/// What a copy reads. The conditions are SQL over `c` (`pg_class`) and `n` (`pg_namespace`).
#[derive(Debug, Clone)]
pub struct Scope {
    /// Tables whose structure is read, which locks them and so takes SELECT.
    pub tables: String,
    /// Tables whose rows are read; row security must not hide any.
    pub rows: String,
    /// Sequences whose values are read.
    pub sequences: String,
    /// Whether large objects are read.
    pub large_objects: bool,
    /// Whether hidden rows are accepted (`--enable-row-security`).
    pub row_security: bool,
}

/// Something that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// A schema without USAGE.
    Schema(String),
    /// A table without SELECT.
    Table {
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
    /// A sequence without SELECT.
    Sequence {
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
    /// A large object without SELECT.
    LargeObject(u32),
    /// A table whose row security hides rows.
    RowSecurity {
        /// Its schema.
        schema: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(name) => write!(f, "schema {name}"),
            Self::Table { schema, name } => write!(f, "table {schema}.{name}"),
            Self::Sequence { schema, name } => write!(f, "sequence {schema}.{name}"),
            Self::LargeObject(oid) => write!(f, "large object {oid}"),
            Self::RowSecurity { schema, name } => {
                write!(f, "rows of {schema}.{name} that row security hides")
            }
        }
    }
}

/// Not everything can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the user {user:?} cannot read all that is copied: {}", list(lacks))]
pub struct AccessError {
    /// Who copies.
    pub user: String,
    /// What cannot be read.
    pub lacks: Vec<Lack>,
}

fn list(lacks: &[Lack]) -> String {
    let named: Vec<_> = lacks
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let named = named.join(", ");
    match lacks.len() - NAMED_MAX.min(lacks.len()) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

impl AccessError {
    /// The statements that would help, for a superuser or the owners to run.
    pub fn grants(&self) -> Vec<String> {
        let user = sql::ident(&self.user);
        let mut grants = Vec::new();
        let schemas = self.lacks.iter().filter_map(|lack| match lack {
            Lack::Schema(name) => Some(name.as_str()),
            Lack::Table { .. }
            | Lack::Sequence { .. }
            | Lack::LargeObject(_)
            | Lack::RowSecurity { .. } => None,
        });
        let schemas = sql::idents(schemas);
        if !schemas.is_empty() {
            grants.push(format!("GRANT USAGE ON SCHEMA {schemas} TO {user};"));
        }
        let tables = self.lacks.iter().filter_map(|lack| match lack {
            Lack::Table { schema, name } => Some((schema.as_str(), name.as_str())),
            Lack::Schema(_)
            | Lack::Sequence { .. }
            | Lack::LargeObject(_)
            | Lack::RowSecurity { .. } => None,
        });
        grant_select(&mut grants, "TABLE", tables, &user);
        let sequences = self.lacks.iter().filter_map(|lack| match lack {
            Lack::Sequence { schema, name } => Some((schema.as_str(), name.as_str())),
            Lack::Schema(_)
            | Lack::Table { .. }
            | Lack::LargeObject(_)
            | Lack::RowSecurity { .. } => None,
        });
        grant_select(&mut grants, "SEQUENCE", sequences, &user);
        let objects = self.lacks.iter().filter_map(|lack| match lack {
            Lack::LargeObject(oid) => Some(oid.to_string()),
            Lack::Schema(_)
            | Lack::Table { .. }
            | Lack::Sequence { .. }
            | Lack::RowSecurity { .. } => None,
        });
        let objects: Vec<_> = objects.collect();
        if !objects.is_empty() {
            let objects = objects.join(", ");
            grants.push(format!("GRANT SELECT ON LARGE OBJECT {objects} TO {user};"));
        }
        if self.has_hidden_rows() {
            grants.push(format!("ALTER ROLE {user} BYPASSRLS;"));
        }
        grants
    }

    fn has_hidden_rows(&self) -> bool {
        self.lacks
            .iter()
            .any(|lack| matches!(lack, Lack::RowSecurity { .. }))
    }

    /// What to do, in words around those statements.
    pub fn hint(&self) -> String {
        let mut hint = format!("run on the source: {}", self.grants().join(" "));
        let is_data = |lack: &Lack| {
            matches!(
                lack,
                Lack::Schema(_) | Lack::Table { .. } | Lack::Sequence { .. }
            )
        };
        if self.lacks.iter().any(is_data) {
            let user = sql::ident(&self.user);
            hint.push_str(&format!(
                " (all schemas, tables and sequences at once: GRANT pg_read_all_data TO {user};)"
            ));
        }
        if self.has_hidden_rows() {
            hint.push_str(
                " (or accept the rows that row security shows: dump_args --enable-row-security, \
                 with connection_settings for its policies)",
            );
        }
        hint
    }
}

/// One GRANT for each schema, which names its objects while they are few. `objects` come ordered by schema.
fn grant_select<'a>(
    grants: &mut Vec<String>,
    kind: &str,
    objects: impl Iterator<Item = (&'a str, &'a str)>,
    user: &str,
) {
    let objects: Vec<_> = objects.collect();
    for in_schema in objects.chunk_by(|one, other| one.0 == other.0) {
        let schema = in_schema[0].0;
        let target = if in_schema.len() > GRANTED_BY_NAME_MAX {
            format!("ALL {kind}S IN SCHEMA {}", sql::ident(schema))
        } else {
            let names = in_schema
                .iter()
                .map(|(schema, name)| sql::qualified(schema, name));
            format!("{kind} {}", names.collect::<Vec<_>>().join(", "))
        };
        grants.push(format!("GRANT SELECT ON {target} TO {user};"));
    }
}

/// What of `scope` the session's user cannot read, in the session's transaction.
///
/// # Errors
/// [`SourceError`].
pub async fn lacks(session: &Session, scope: &Scope) -> Result<Vec<Lack>, SourceError> {
    // Patterns without a schema mean what the user's own search_path finds.
    let by_user = "SET LOCAL search_path TO DEFAULT";
    rows(session, "search_path", by_user).await?;
    let mut lacks = Vec::new();
    for row in rows(session, "rights on schemas", &schemas(scope)).await? {
        lacks.push(Lack::Schema(row.text(0)?));
    }
    for row in rows(
        session,
        "rights on tables",
        &without_select(&scope.tables, "rp"),
    )
    .await?
    {
        let (schema, name) = names(&row)?;
        lacks.push(Lack::Table { schema, name });
    }
    for row in rows(
        session,
        "rights on sequences",
        &without_select(&scope.sequences, "S"),
    )
    .await?
    {
        let (schema, name) = names(&row)?;
        lacks.push(Lack::Sequence { schema, name });
    }
    if scope.large_objects {
        for row in rows(session, "rights on large objects", LARGE_OBJECTS).await? {
            lacks.push(Lack::LargeObject(row.number(0)?));
        }
    }
    if !scope.row_security {
        for row in rows(session, "row security", &hidden(scope)).await? {
            let (schema, name) = names(&row)?;
            lacks.push(Lack::RowSecurity { schema, name });
        }
    }
    rows(session, "search_path", "SET LOCAL search_path = pg_catalog").await?;
    Ok(lacks)
}

/// The same as an error.
///
/// # Errors
/// The outer one when the source does not answer, the inner one when something cannot be read.
pub async fn check(
    session: &Session,
    scope: &Scope,
) -> Result<Result<(), AccessError>, SourceError> {
    let lacks = lacks(session, scope).await?;
    if lacks.is_empty() {
        return Ok(Ok(()));
    }
    let user = row(session, "user", "SELECT current_user").await?.text(0)?;
    Ok(Err(AccessError { user, lacks }))
}

fn names(row: &Answer) -> Result<(String, String), SourceError> {
    Ok((row.text(0)?, row.text(1)?))
}

const RELATIONS: &str = "FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE";

fn schemas(scope: &Scope) -> String {
    format!(
        "SELECT DISTINCT n.nspname {RELATIONS} \
         ((c.relkind IN ('r', 'p') AND ({})) OR (c.relkind = 'S' AND ({}))) \
         AND NOT has_schema_privilege(n.oid, 'USAGE') ORDER BY 1",
        scope.tables, scope.sequences
    )
}

/// Relations of these kinds without the right to read them: `has_table_privilege` is for sequences too.
fn without_select(condition: &str, kinds: &str) -> String {
    format!(
        "SELECT n.nspname, c.relname {RELATIONS} \
         strpos('{kinds}', c.relkind::text) > 0 AND ({condition}) \
         AND NOT has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2"
    )
}

fn hidden(scope: &Scope) -> String {
    format!(
        "SELECT n.nspname, c.relname {RELATIONS} c.relkind IN ('r', 'p') AND ({}) \
         AND row_security_active(c.oid) ORDER BY 1, 2",
        scope.rows
    )
}

/// `has_largeobject_privilege` came with 18; this is what it looks at.
const LARGE_OBJECTS: &str = "SELECT m.oid FROM pg_catalog.pg_largeobject_metadata m \
     WHERE current_setting('is_superuser') = 'off' AND current_setting('lo_compat_privileges') = 'off' \
     AND NOT EXISTS (SELECT FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) a \
       WHERE a.privilege_type = 'SELECT' AND CASE WHEN a.grantee = 0 THEN true \
       ELSE pg_has_role(a.grantee, 'USAGE') END) ORDER BY 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str, name: &str) -> Lack {
        Lack::Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn the_error_names_a_few_and_counts_the_rest() {
        let lacks: Vec<_> = (0..8).map(|n| table("public", &format!("t{n}"))).collect();
        let error = AccessError {
            user: "app".to_owned(),
            lacks,
        };
        assert_eq!(
            error.to_string(),
            "the user \"app\" cannot read all that is copied: table public.t0, table public.t1, \
             table public.t2, table public.t3, table public.t4, and 3 more"
        );
    }

    #[test]
    fn every_lack_has_its_grant() {
        let sequence = Lack::Sequence {
            schema: "Sales".to_owned(),
            name: "ids".to_owned(),
        };
        let hidden = Lack::RowSecurity {
            schema: "public".to_owned(),
            name: "secret".to_owned(),
        };
        let error = AccessError {
            user: "app".to_owned(),
            lacks: vec![
                Lack::Schema("Sales".to_owned()),
                table("Sales", "a"),
                table("Sales", "b"),
                table("public", "c"),
                sequence,
                Lack::LargeObject(7),
                Lack::LargeObject(8),
                hidden,
            ],
        };
        assert_eq!(
            error.grants(),
            [
                "GRANT USAGE ON SCHEMA \"Sales\" TO \"app\";",
                "GRANT SELECT ON TABLE \"Sales\".\"a\", \"Sales\".\"b\" TO \"app\";",
                "GRANT SELECT ON TABLE \"public\".\"c\" TO \"app\";",
                "GRANT SELECT ON SEQUENCE \"Sales\".\"ids\" TO \"app\";",
                "GRANT SELECT ON LARGE OBJECT 7, 8 TO \"app\";",
                "ALTER ROLE \"app\" BYPASSRLS;",
            ]
        );
        assert!(error.hint().contains("GRANT pg_read_all_data TO \"app\";"));
        assert!(error.hint().contains("--enable-row-security"));
    }

    #[test]
    fn many_tables_of_a_schema_are_granted_at_once() {
        let lacks = (0..=GRANTED_BY_NAME_MAX).map(|n| table("public", &format!("t{n}")));
        let error = AccessError {
            user: "app".to_owned(),
            lacks: lacks.collect(),
        };
        let grants = error.grants();
        assert_eq!(
            grants,
            ["GRANT SELECT ON ALL TABLES IN SCHEMA \"public\" TO \"app\";"]
        );
    }
}
