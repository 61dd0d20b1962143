//! The other ways to a database of one's own: what PostgreSQL itself offers, each until the copy is used.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use fixtures::{ServerAccount, TestPostgres, tool};

use super::COPY_RUNS_MAX;
use crate::bench::MAJOR_OF_CLIENTS;
use crate::bench::place::{Ground, Place};
use crate::bench::row::Row;
use crate::bench::source::{DATABASE, Data, OWNER, Source, client, create_database, drop_database};
use crate::bench::stage::{Stage, Unmeasurable};
use crate::bench::stopwatch::{median, p95, time_ms};
use crate::command::capture;

/// The first version that clones the files of a template.
const MAJOR_THAT_CLONES: u16 = 18;

/// From this size on, one run of a way that copies everything says enough.
const LARGE_MB: u32 = 2_000;

/// A way to a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Way {
    DumpPsql,
    DumpRestore,
    TemplateFileCopy,
    TemplateWalLog,
    TemplateClone,
}

impl Way {
    /// All, in the order of the plan: the last needs a server of another version.
    pub(in crate::bench) const ALL: [Self; 5] = [
        Self::DumpPsql,
        Self::DumpRestore,
        Self::TemplateFileCopy,
        Self::TemplateWalLog,
        Self::TemplateClone,
    ];

    /// As names of rows have it.
    pub(in crate::bench) fn word(self) -> &'static str {
        match self {
            Self::DumpPsql => "dump_psql",
            Self::DumpRestore => "dump_restore_j2",
            Self::TemplateFileCopy => "template_file_copy",
            Self::TemplateWalLog => "template_wal_log",
            Self::TemplateClone => "template_pg18_clone",
        }
    }

    /// For people.
    pub(in crate::bench) fn description(self) -> &'static str {
        match self {
            Self::DumpPsql => "pg_dump | psql",
            Self::DumpRestore => "pg_dump -Fd -j2, pg_restore -j2",
            Self::TemplateFileCopy => "CREATE DATABASE TEMPLATE, file_copy",
            Self::TemplateWalLog => "CREATE DATABASE TEMPLATE, wal_log",
            Self::TemplateClone => "PostgreSQL 18 TEMPLATE, clone",
        }
    }

    fn note(self) -> &'static str {
        match self {
            Self::DumpPsql | Self::DumpRestore => "into the same server, fsync off",
            Self::TemplateFileCopy | Self::TemplateWalLog => {
                "in the same server, fsync off, nobody connected to the template"
            }
            Self::TemplateClone => {
                "file_copy_method=clone in a tablespace on XFS, fsync off, nobody connected to the template"
            }
        }
    }
}

/// From nothing until the copy was used.
pub(super) fn measure(
    stage: &mut Stage,
    way: Way,
    data: Data,
    name: &str,
    runs: u32,
) -> Result<Row> {
    // A connection that an engine keeps would forbid the use as a template.
    stage.clear_engine();
    let times = if way == Way::TemplateClone {
        stage.clear_source();
        stage.check_room(data, 2)?;
        cloned(data, runs)?
    } else {
        stage.check_room(data, 1)?;
        let files = stage.files.path().join("dump");
        let source = stage.source(data)?;
        let runs = if data.megabytes() >= LARGE_MB {
            1
        } else {
            runs.min(COPY_RUNS_MAX)
        };
        let copy = |database: &str| match way {
            Way::DumpPsql => dump_psql(source, database),
            Way::DumpRestore => dump_restore(source, &source.server, &files, database),
            Way::TemplateFileCopy => template(source, database, "STRATEGY file_copy"),
            Way::TemplateWalLog | Way::TemplateClone => {
                template(source, database, "STRATEGY wal_log")
            }
        };
        times(source, runs, copy)?
    };
    let row = Row {
        p50: Some(median(&times)),
        p95: Some(p95(&times)),
        runs: u32::try_from(times.len()).ok(),
        size_mb: Some(data.megabytes()),
        ..Row::new(name, "ms").value(median(&times))
    };
    Ok(row.note(format!("{}: {}", way.description(), way.note())))
}

fn times(source: &Source, runs: u32, copy: impl Fn(&str) -> Result<()>) -> Result<Vec<f64>> {
    let client = crate::bench::client::Client::new()?;
    let mut times = Vec::new();
    for run in 0..runs {
        let database = format!("copy_{run}");
        times.push(time_ms(|| {
            copy(&database)?;
            client
                .use_last_row(&source.url_of(&database), source.last_row)
                .map(drop)
        })?);
        drop_database(&source.server, &database)?;
    }
    Ok(times)
}

fn template(source: &Source, database: &str, options: &str) -> Result<()> {
    let create = format!("CREATE DATABASE {database} TEMPLATE {DATABASE} OWNER {OWNER} {options}");
    source.server.execute("postgres", &create)
}

fn dump_psql(source: &Source, database: &str) -> Result<()> {
    create_database(&source.server, database)?;
    let mut dump = source.client("pg_dump", DATABASE)?;
    let mut dump = dump.stdout(Stdio::piped()).spawn().context("run pg_dump")?;
    let text = dump.stdout.take().context("pg_dump has no output")?;
    // A 17 client names a setting that a 16 server does not know, which psql only tells.
    let mut psql = source.client("psql", database)?;
    let psql = psql
        .args(["--quiet", "--no-psqlrc"])
        .stdin(text)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ensure!(psql.context("run psql")?.success(), "psql failed");
    ensure!(
        dump.wait().context("wait for pg_dump")?.success(),
        "pg_dump failed"
    );
    Ok(())
}

/// A parallel dump of the source and its parallel restore into a server.
pub(super) fn dump_restore(
    source: &Source,
    into: &TestPostgres,
    files: &std::path::Path,
    database: &str,
) -> Result<()> {
    create_database(into, database)?;
    capture(
        source
            .client("pg_dump", DATABASE)?
            .args(["-Fd", "-j2", "-f"])
            .arg(files),
    )?;
    let mut restore = client(into, "pg_restore", database)?;
    let restored = restore
        .args(["-j2", "--no-owner", "-d", database])
        .arg(files)
        .output()
        .context("run pg_restore")?;
    // A 17 client names a setting that a 16 server does not know; everything else is restored.
    let errors = String::from_utf8_lossy(&restored.stderr);
    let unexpected = errors
        .lines()
        .find(|line| line.contains("error:") && !line.contains("transaction_timeout"));
    ensure!(unexpected.is_none(), "pg_restore: {errors}");
    std::fs::remove_dir_all(files).with_context(|| format!("remove {}", files.display()))
}

/// A server of its own, whose data lies on a filesystem that clones.
fn cloned(data: Data, runs: u32) -> Result<Vec<f64>> {
    if tool(MAJOR_OF_CLIENTS, "pgbench").is_err()
        || fixtures::Binaries::find(MAJOR_THAT_CLONES).is_err()
    {
        return Err(Unmeasurable::because("PostgreSQL 18 is not installed"));
    }
    let room = u64::from(data.megabytes()) << 21;
    let ground = Place::ReflinkXfs.make(room + (1 << 30))?;
    let source = Source::fill_version(data, MAJOR_THAT_CLONES)?;
    let moved = move_to(&source, &ground);
    let times = moved.and_then(|()| {
        let clone = "STRATEGY file_copy";
        times(&source, runs, |database| template(&source, database, clone))
    });
    // The server's files lie on the ground: it ends first.
    drop(source);
    drop(ground);
    times
}

fn move_to(source: &Source, ground: &Ground) -> Result<()> {
    let directory = ground.data_dir().join("space");
    std::fs::create_dir(&directory).context("make a tablespace's directory")?;
    ServerAccount::detect()?.own(&directory)?;
    let create = format!(
        "CREATE TABLESPACE cloning LOCATION '{}'",
        directory.display()
    );
    source.server.execute("postgres", &create)?;
    let alter = format!("ALTER DATABASE {DATABASE} SET TABLESPACE cloning");
    source.server.execute("postgres", &alter)?;
    source
        .server
        .execute("postgres", "ALTER SYSTEM SET file_copy_method = 'clone'")?;
    source
        .server
        .query_value("postgres", "SELECT pg_reload_conf()")
        .map(drop)?;
    let patience = std::time::Duration::from_secs(20);
    fixtures::eventually("the server's new setting", patience, || {
        let value = source
            .server
            .query_value("postgres", "SHOW file_copy_method")?;
        Ok((value == "clone").then_some(()))
    })
}
