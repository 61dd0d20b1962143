//! Whether text sorts in a copy as it sorts on its source.
//!
//! A copy's indexes are built on this machine, so that none of them is spoiled by another version of the C library or of
//! ICU, as those of copied files are (`physical::collations`). What `ORDER BY` answers may still differ. Owns finding
//! that out, and the sentence that says so.

use std::collections::{BTreeMap, BTreeSet};

use super::CopyError;
use crate::postgres::connect::Session;
use crate::source::{self, SourceError};

/// The version that the database and each collation of a column were made with, by what they are. Those without one
/// never change (PostgreSQL documentation, `pg_collation`).
const VERSIONS: &str = "SELECT '' AS name, CASE datlocprovider WHEN 'i' THEN 'ICU' ELSE 'libc' END, datcollversion \
       FROM pg_database WHERE datname = current_database() AND datcollversion IS NOT NULL \
     UNION SELECT format('%I.%I', n.nspname, l.collname), CASE l.collprovider WHEN 'i' THEN 'ICU' ELSE 'libc' END, \
       l.collversion FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace \
       WHERE l.collversion IS NOT NULL AND EXISTS ( \
         SELECT FROM pg_attribute a WHERE a.attcollation = l.oid AND NOT a.attisdropped)";

/// A provider's name and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    provider: String,
    version: String,
}

/// Versions by collation; the database's own has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Versions(BTreeMap<String, Version>);

impl Versions {
    /// Asks a source.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) async fn of_source(session: &Session) -> Result<Self, SourceError> {
        let rows = source::rows(session, "collation versions", VERSIONS).await?;
        let version = |row: &source::Answer| {
            let (provider, version) = (row.text(1)?, row.text(2)?);
            Ok((row.text(0)?, Version { provider, version }))
        };
        rows.iter().map(version).collect::<Result<_, _>>().map(Self)
    }

    /// Asks a copy.
    ///
    /// # Errors
    /// [`CopyError::Prepare`].
    pub(super) async fn of_copy(session: &Session) -> Result<Self, CopyError> {
        let failed = |source| CopyError::of_base("look how text sorts", source);
        let rows = session.query(VERSIONS, &[]).await.map_err(failed)?;
        let version = |row: &tokio_postgres::Row| {
            let (provider, version) = (row.get(1), row.get(2));
            (row.get(0), Version { provider, version })
        };
        Ok(Self(rows.iter().map(version).collect()))
    }

    /// The sentence about a copy that has these, of a source that has `there`; none where nothing differs.
    pub(super) fn note(&self, there: &Self) -> Option<String> {
        let differences: BTreeSet<String> = there
            .0
            .iter()
            .filter_map(|(name, there)| {
                let here = self.0.get(name)?;
                let (provider, version) = (&there.provider, &there.version);
                let differs = here != there;
                differs.then(|| format!("{provider} {version} there, {} here", here.version))
            })
            .collect();
        if differences.is_empty() {
            return None;
        }
        let differences: Vec<String> = differences.into_iter().collect();
        Some(format!(
            "text may sort otherwise than on the source ({}); indexes were built here, and none needs REINDEX",
            differences.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(entries: &[(&str, &str, &str)]) -> Versions {
        let entry = |(name, provider, version): &(&str, &str, &str)| {
            let (provider, version) = ((*provider).to_owned(), (*version).to_owned());
            ((*name).to_owned(), Version { provider, version })
        };
        Versions(entries.iter().map(entry).collect())
    }

    #[test]
    fn each_difference_is_told_once() {
        let there = versions(&[
            ("", "libc", "2.36"),
            ("a.b", "ICU", "1"),
            ("a.c", "ICU", "1"),
        ]);
        let here = versions(&[
            ("", "libc", "2.36"),
            ("a.b", "ICU", "2"),
            ("a.c", "ICU", "2"),
        ]);
        let note = here.note(&there).unwrap();
        assert!(note.contains("(ICU 1 there, 2 here)"), "{note}");
        assert_eq!(here.note(&here), None);
    }

    #[test]
    fn what_is_on_one_side_alone_is_no_difference() {
        let there = versions(&[("a.b", "ICU", "1")]);
        assert_eq!(versions(&[]).note(&there), None);
        assert_eq!(there.note(&versions(&[])), None);
    }
}
