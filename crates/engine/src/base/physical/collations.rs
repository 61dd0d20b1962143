//! Whether text sorts here as it sorted on the source.
//!
//! Files hold indexes that are only right as long as the C library and ICU sort as they did when the index was built.
//! Another image, even a minor release of one, may bring another version. Owns finding out which indexes that spoils,
//! and the sentence that says so with what to do.

use tokio_postgres::SimpleQueryRow;

use super::control;
use crate::postgres::connect::Session;

/// Indexes that a sentence names; the rest is counted.
const NAMED_MAX: usize = 5;

/// What sorts otherwise here. Empty where nothing does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Otherwise {
    /// Each difference: `libc 2.36 there, 2.41 here`.
    pub versions: Vec<String>,
    /// Indexes that may be wrong, as SQL names them.
    pub indexes: Vec<String>,
}

const DATABASE: &str = "SELECT CASE datlocprovider WHEN 'i' THEN 'ICU' ELSE 'libc' END, datcollversion, \
     pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database() \
     AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid) \
     AND datlocprovider IN ('c', 'i')";

/// Only collations that an index uses are looked at: there are hundreds, and asking ICU for one takes its time. Oid 100
/// is the database's own (`DEFAULT_COLLATION_OID`). Those without a version never change.
const INDEXES: &str = "WITH used AS ( \
       SELECT DISTINCT k.collation_oid AS oid FROM pg_index i \
       CROSS JOIN LATERAL unnest(i.indcollation::oid[]) AS k(collation_oid) WHERE k.collation_oid <> 0), \
     otherwise AS ( \
       SELECT l.oid, format('%s %s there, %s here', \
         CASE l.collprovider WHEN 'i' THEN 'ICU' ELSE 'libc' END, \
         l.collversion, pg_collation_actual_version(l.oid)) AS difference \
       FROM pg_collation l JOIN used USING (oid) WHERE l.collversion IS NOT NULL \
         AND l.collversion IS DISTINCT FROM pg_collation_actual_version(l.oid) \
       UNION ALL SELECT 100, NULL FROM pg_database WHERE datname = current_database() \
         AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid) \
         AND datlocprovider IN ('c', 'i')) \
     SELECT DISTINCT format('%I.%I', n.nspname, c.relname), o.difference \
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN otherwise o ON o.oid = ANY (i.indcollation::oid[]) ORDER BY 1";

impl Otherwise {
    /// Asks the copy of a source, in the session's database.
    ///
    /// # Errors
    /// What the server said.
    pub async fn read(session: &Session) -> Result<Self, tokio_postgres::Error> {
        let mut otherwise = Self::default();
        let own = control::rows(session, DATABASE).await?;
        otherwise.versions.extend(own.iter().map(describe));
        for row in control::rows(session, INDEXES).await? {
            otherwise.indexes.push(control::text(&row, 0).to_owned());
            let version = control::text(&row, 1);
            if !version.is_empty() {
                otherwise.versions.push(version.to_owned());
            }
        }
        otherwise.versions.sort();
        otherwise.versions.dedup();
        otherwise.indexes.dedup();
        Ok(otherwise)
    }

    /// The sentence that tells of it; none where there is nothing to tell.
    pub fn note(&self) -> Option<String> {
        if self.versions.is_empty() {
            return None;
        }
        let versions = self.versions.join(", ");
        if self.indexes.is_empty() {
            return Some(format!(
                "text may sort otherwise than on the source ({versions}); no index depends on it"
            ));
        }
        let named: Vec<_> = self
            .indexes
            .iter()
            .take(NAMED_MAX)
            .map(String::as_str)
            .collect();
        let more = match self.indexes.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = named.join(", ");
        Some(format!(
            "text may sort otherwise than on the source ({versions}): REINDEX INDEX {named}{more}, or run the source's image"
        ))
    }
}

fn describe(row: &SimpleQueryRow) -> String {
    let or_none = |column| match control::text(row, column) {
        "" => "no version",
        version => version,
    };
    format!(
        "{} {} there, {} here",
        control::text(row, 0),
        or_none(1),
        or_none(2)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_where_nothing_differs() {
        assert_eq!(Otherwise::default().note(), None);
    }

    #[test]
    fn what_to_reindex_is_named() {
        let otherwise = Otherwise {
            versions: vec!["libc 2.36 there, 2.41 here".to_owned()],
            indexes: (1..=7).map(|number| format!("public.i{number}")).collect(),
        };
        let note = otherwise.note().unwrap();
        assert!(note.contains("REINDEX INDEX public.i1"), "{note}");
        assert!(note.contains("public.i5 and 2 more"), "{note}");
    }
}
