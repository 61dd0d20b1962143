//! Sources with rows in them: by size or by number of tables.

use std::process::Command;

use anyhow::Result;
use fixtures::{Options, TestPostgres, sql, tool};

use super::client::LastRow;
use super::{MAJOR, MAJOR_OF_CLIENTS};
use crate::command::capture;

/// The source's database and its owner.
pub(super) const DATABASE: &str = "bench";
pub(super) const OWNER: &str = "bench";
const PASSWORD: &str = "bench-password";
/// Megabytes that one unit of pgbench's scale takes, index included.
const MB_PER_SCALE: u32 = 15;
const ROWS_PER_SCALE: u64 = 100_000;
/// Tables made by one statement: each holds a lock until its end.
const TABLES_PER_STATEMENT: u32 = 50;

/// What is in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// pgbench's four tables, this many megabytes.
    Megabytes(u32),
    /// pgbench's at its smallest, and this many small tables with an index and an out-of-line column each.
    Tables(u32),
}

impl Data {
    /// As names of rows have it.
    pub(super) fn word(self) -> String {
        match self {
            Self::Megabytes(size) => format!("{size}mb"),
            Self::Tables(count) => format!("{count}tables"),
        }
    }

    /// About what it takes on disk.
    pub(super) fn megabytes(self) -> u32 {
        match self {
            Self::Megabytes(size) => size,
            // Six files of one or two pages each.
            Self::Tables(count) => 30 + count / 10,
        }
    }

    fn scale(self) -> u32 {
        match self {
            Self::Megabytes(size) => (size / MB_PER_SCALE).max(1),
            Self::Tables(_) => 1,
        }
    }
}

/// A server with data; ended when dropped.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) server: TestPostgres,
    /// The last row of the largest table.
    pub(super) last_row: LastRow,
    pub(super) data: Data,
}

impl Source {
    /// Starts a server and fills its database.
    pub(super) fn fill(data: Data) -> Result<Self> {
        Self::fill_version(data, MAJOR)
    }

    /// The same of another major version.
    pub(super) fn fill_version(data: Data, major: u16) -> Result<Self> {
        // Nothing that the server does by itself may move it in mid-measurement.
        let options = Options::new(major)
            .setting("autovacuum", "off")
            .setting("max_wal_size", "4GB")
            .setting("shared_buffers", "128MB")
            .setting("max_connections", "200");
        let server = options.start()?;
        server.execute(
            "postgres",
            &format!("CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{PASSWORD}'"),
        )?;
        create_database(&server, DATABASE)?;
        let source = Self {
            server,
            last_row: LastRow(u64::from(data.scale()) * ROWS_PER_SCALE),
            data,
        };
        let scale = data.scale().to_string();
        capture(source.client("pgbench", DATABASE)?.args([
            "--initialize",
            "--quiet",
            "--scale",
            &scale,
        ]))?;
        if let Data::Tables(count) = data {
            source.add_tables(count)?;
        }
        source.settle()?;
        Ok(source)
    }

    fn add_tables(&self, count: u32) -> Result<()> {
        let mut first = 0;
        while first < count {
            let last = (first + TABLES_PER_STATEMENT).min(count) - 1;
            let statements = format!(
                "DO $$ BEGIN FOR i IN {first}..{last} LOOP
                     EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, name text, at timestamptz DEFAULT now())', i);
                     EXECUTE format('INSERT INTO t%s SELECT n, ''name '' || n FROM generate_series(1, 100) n', i);
                     EXECUTE format('CREATE INDEX ON t%s (name)', i);
                 END LOOP; END $$"
            );
            sql::execute(&self.url(), &statements)?;
            first = last + 1;
        }
        Ok(())
    }

    /// What a load leaves to do, done, so that the server rests.
    fn settle(&self) -> Result<()> {
        capture(
            self.client("vacuumdb", DATABASE)?
                .args(["--analyze", "--quiet"]),
        )?;
        self.server.execute("postgres", "CHECKPOINT")
    }

    /// A client program as the owner, its connection in its environment.
    pub(super) fn client(&self, program: &str, database: &str) -> Result<Command> {
        client(&self.server, program, database)
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// Another database of its server.
    pub(super) fn url_of(&self, database: &str) -> String {
        self.server.url(OWNER, PASSWORD, database)
    }

    /// Its URL through another port of this machine.
    pub(super) fn url_through(&self, port: u16) -> String {
        let direct = format!(":{}/", self.server.port());
        self.url().replace(&direct, &format!(":{port}/"))
    }
}

/// A client program as the owner of a server's databases.
pub(super) fn client(server: &TestPostgres, program: &str, database: &str) -> Result<Command> {
    let mut command = Command::new(tool(MAJOR_OF_CLIENTS, program)?);
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", server.port().to_string())
        .env("PGUSER", OWNER)
        .env("PGPASSWORD", PASSWORD)
        .env("PGDATABASE", database);
    Ok(command)
}

/// Makes a database for the owner.
pub(super) fn create_database(server: &TestPostgres, name: &str) -> Result<()> {
    server.execute("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"))
}

/// Drops a database.
pub(super) fn drop_database(server: &TestPostgres, name: &str) -> Result<()> {
    server.execute("postgres", &format!("DROP DATABASE {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_has_a_row() {
        for data in [Data::Megabytes(1), Data::Megabytes(100), Data::Tables(500)] {
            assert!(data.scale() >= 1 && data.megabytes() >= 1, "{data:?}");
        }
        assert_eq!(Data::Megabytes(1_000).scale(), 66);
    }
}
