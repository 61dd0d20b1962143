//! Libraries that a server loads at its start: which of a source's a clone keeps, and what keeps them still there.
//!
//! A library that an extension needs must be loaded, or its functions refuse to work (TimescaleDB); its background
//! workers must not run, for a branch does no jobs of its source's. Owns the list of what is known of them, for
//! dumps as for copies of files, and where a library lies in an installation. Leaves it to `fitness` whether a missing one
//! is the end.

use std::path::PathBuf;

use crate::postgres::binaries::Installation;
use crate::postgres::settings::SemanticSettings;

/// A library of which it is known what keeps it still.
struct Known {
    name: &'static str,
    /// Whether the extension of its name refuses to be made or used without it.
    is_needed: bool,
    /// Settings that keep its workers still, `$database` standing for the branched database.
    still: &'static [(&'static str, &'static str)],
}

impl Known {
    const fn new(name: &'static str, still: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            name,
            is_needed: false,
            still,
        }
    }

    const fn needed(name: &'static str, still: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            is_needed: true,
            ..Self::new(name, still)
        }
    }

    fn still_in(&self, database: &str) -> impl Iterator<Item = (String, String)> {
        let fill = move |(name, value): &(&str, &str)| {
            ((*name).to_owned(), value.replace("$database", database))
        };
        self.still.iter().map(fill)
    }
}

/// What is not here is not known, and left out.
const KNOWN: [Known; 17] = [
    // Hooks alone; `cypher()` is nothing without it (apache/age, README and issue 2353).
    Known::needed("age", &[]),
    // Masks as the source does; its labels cannot be made without it (postgresql_anonymizer, "Load the extension").
    Known::needed("anon", &[]),
    Known::new("auto_explain", &[("auto_explain.log_min_duration", "-1")]),
    Known::needed("citus", &[]),
    Known::needed(
        "pg_cron",
        &[
            ("cron.launch_active_jobs", "off"),
            // Its launcher waits in a database that takes connections, and its extension can be made in no other.
            ("cron.database_name", "$database"),
        ],
    ),
    Known::new("pg_hint_plan", &[]),
    Known::new("pg_prewarm", &[("pg_prewarm.autoprewarm", "off")]),
    Known::new("pg_qualstats", &[]),
    // Its workers start for the databases of squeeze.worker_autostart, which a clone's settings do not name (NULL in its
    // source); it cannot be dumped and made again without it (pg_squeeze, README).
    Known::needed("pg_squeeze", &[]),
    Known::new("pg_stat_kcache", &[]),
    Known::needed("pg_stat_statements", &[]),
    // Shared memory and no worker; has to come after pg_stat_statements (its documentation, "Set up pg_stat_monitor").
    Known::needed("pg_stat_monitor", &[]),
    Known::needed("pgaudit", &[("pgaudit.log", "none")]),
    Known::needed("pgsodium", &[]),
    // Named before plpgsql_check, whose profiler shares memory and has no worker (plpgsql_check, README).
    Known::new("plpgsql", &[]),
    Known::new("plpgsql_check", &[]),
    Known::needed(
        "timescaledb",
        &[
            ("timescaledb.max_background_workers", "0"),
            ("timescaledb.telemetry_level", "off"),
        ],
    ),
];

/// Libraries that exist to reach out, and that no application needs loaded.
const REACHES_OUT: [&str; 3] = ["pg_net", "pglogical", "pg_partman_bgw"];

/// What a clone loads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preload {
    /// `shared_preload_libraries`, with what keeps the workers still; empty where there is nothing to load.
    pub settings: SemanticSettings,
    /// What is otherwise than on the source, a sentence each.
    pub notes: Vec<String>,
}

/// Splits `shared_preload_libraries`: names with commas between, in double quotes where needed, with or without a path.
pub fn split(list: &str) -> Vec<String> {
    let names = list
        .split(',')
        .map(|name| name.trim().trim_matches('"').trim());
    let bare = |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name);
        name.strip_suffix(".so").unwrap_or(name).to_owned()
    };
    names.filter(|name| !name.is_empty()).map(bare).collect()
}

/// The libraries of `names` that an installation lacks.
pub fn missing(installation: &Installation, names: &[String]) -> Vec<String> {
    let lacks = |name: &&String| file(installation, name).is_none();
    names.iter().filter(lacks).cloned().collect()
}

/// Where a library lies: `pg_config --pkglibdir` is beside the programs, in one of two places of a relocatable
/// installation, or in Debian's.
fn file(installation: &Installation, name: &str) -> Option<PathBuf> {
    let home = installation.bin.parent()?;
    ["lib/postgresql", "lib", "lib64/postgresql", "lib64"]
        .iter()
        .map(|folder| home.join(folder).join(format!("{name}.so")))
        .find(|path| path.is_file())
}

/// What a branch of `database` loads of the source's libraries.
pub fn preload(installation: &Installation, names: &[String], database: &str) -> Preload {
    let mut preload = Preload::default();
    let mut loaded = Vec::new();
    for name in names {
        if REACHES_OUT.contains(&name.as_str()) {
            preload.notes.push(format!(
                "the preloaded library {name} was left out: it reaches out of the database"
            ));
            continue;
        }
        let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
            preload.notes.push(format!(
                "the preloaded library {name} was left out: what would keep its workers still is not known"
            ));
            continue;
        };
        if file(installation, name).is_none() {
            preload.notes.push(format!(
                "the preloaded library {name} is not installed here"
            ));
            continue;
        }
        loaded.push(known);
    }
    preload.settings = load(&loaded, database);
    preload
}

/// What a copy of `database` loads, so that the extensions that `is_used` picks can be made there.
pub fn needed_by_extensions(is_used: impl Fn(&str) -> bool, database: &str) -> SemanticSettings {
    let needed = KNOWN
        .iter()
        .filter(|known| known.is_needed && is_used(known.name));
    load(&needed.collect::<Vec<_>>(), database)
}

fn load(libraries: &[&Known], database: &str) -> SemanticSettings {
    if libraries.is_empty() {
        return SemanticSettings::new();
    }
    let still = libraries
        .iter()
        .flat_map(|library| library.still_in(database));
    let mut settings: SemanticSettings = still.collect();
    let names: Vec<_> = libraries.iter().map(|library| library.name).collect();
    settings.insert("shared_preload_libraries".to_owned(), names.join(","));
    settings
}

#[cfg(test)]
mod tests {
    use model::PgMajor;

    use super::*;
    use crate::postgres::binaries::Programs;

    fn installation(libraries: &[&str]) -> (tempfile::TempDir, Installation) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("lib/postgresql");
        std::fs::create_dir_all(&folder).unwrap();
        for library in libraries {
            std::fs::write(folder.join(format!("{library}.so")), "").unwrap();
        }
        let installation = Installation {
            major: PgMajor(16),
            full_version: "16.1".to_owned(),
            bin: home.path().join("bin"),
            has: Programs::default(),
        };
        (home, installation)
    }

    #[test]
    fn a_list_is_split_as_postgres_splits_it() {
        assert_eq!(
            split(" pg_cron, \"pg_stat_statements\",$libdir/timescaledb.so,, "),
            ["pg_cron", "pg_stat_statements", "timescaledb"]
        );
        assert!(split("").is_empty());
    }

    #[test]
    fn what_is_loaded_keeps_still_and_what_is_not_is_told() {
        let (_home, installation) = installation(&["pg_cron", "secret_bgw", "pg_net"]);
        let names = split("pg_cron,timescaledb,secret_bgw,pg_net");
        let preload = preload(&installation, &names, "shop");
        let value = |name: &str| preload.settings.get(name).map(String::as_str);
        assert_eq!(value("shared_preload_libraries"), Some("pg_cron"));
        assert_eq!(value("cron.launch_active_jobs"), Some("off"));
        assert_eq!(value("cron.database_name"), Some("shop"));
        assert_eq!(preload.notes.len(), 3, "{:?}", preload.notes);
        assert_eq!(missing(&installation, &names), ["timescaledb"]);
    }

    #[test]
    fn a_copy_loads_what_its_extensions_refuse_to_do_without() {
        let used = ["pg_cron", "pg_prewarm", "hstore"];
        let settings = needed_by_extensions(|name| used.contains(&name), "shop");
        let value = |name: &str| settings.get(name).map(String::as_str);
        assert_eq!(value("shared_preload_libraries"), Some("pg_cron"));
        assert_eq!(value("cron.launch_active_jobs"), Some("off"));
        assert_eq!(value("cron.database_name"), Some("shop"));
        assert!(needed_by_extensions(|_| false, "shop").is_empty());
    }

    #[test]
    fn libraries_come_in_the_order_that_they_ask_for() {
        let used = ["pg_stat_monitor", "pg_stat_statements"];
        let settings = needed_by_extensions(|name| used.contains(&name), "shop");
        assert_eq!(
            settings["shared_preload_libraries"],
            "pg_stat_statements,pg_stat_monitor"
        );
    }

    #[test]
    fn nothing_is_set_where_nothing_is_loaded() {
        let (_home, installation) = installation(&[]);
        assert!(preload(&installation, &[], "shop").settings.is_empty());
    }
}
