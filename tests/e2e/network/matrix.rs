//! The matrix of clients by what a session promises them: the usual programs, each in its own words, over one target that
//! is a service, one that is a database, and one that is somebody's page.
//!
//! Printed whole at the end, as Markdown; docs/guide/clients.md has the same table. A cell that holds says `yes`, one that
//! makes no sense for its client `-`, and one that does not hold fails the test.

mod clients;

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use fixtures::{Program, Signal, http};
use serde_json::{Value, json};

use self::clients::{Client, Dials, Server};
use super::incoming::{ask, deploy_with, serve_by, server, wait_for_target};
use super::own_source::Inside;
use super::{Session, network_file, run_with};
use crate::clients::installed;
use crate::story::{BRANCH, LIMIT, NAMESPACE, Story, free_port};

/// The table that the documentation shows.
const DOCUMENTED: &str = include_str!("../../../docs/guide/clients.md");

/// Where the page is, by a name that only targets know.
const PAGE_HOST: &str = "pages.metalmart";
const PAGE_PORT: u16 = 9090;
/// The database's, likewise.
const DATABASE_HOST: &str = "db";

/// What each of them takes from the stock.
const TAKEN: i64 = 7;

const COLUMNS: [&str; 6] = [
    "client",
    "outgoing by name",
    "DNS",
    "listen + mirror",
    "steal",
    "fence",
];

/// One cell: none where it makes no sense.
type Cell = Option<Result<()>>;

/// The targets, and what is known of them.
struct Ground {
    story: Story,
    inside: Inside,
    /// Where the service is published on this machine.
    published: u16,
    database_url: String,
    page_url: String,
    /// A session's file with a branch of the database.
    branch_file: PathBuf,
}

impl Ground {
    /// None, said loudly, where this machine allows targets no networks of their own.
    fn make() -> Result<Option<Self>> {
        let mut story = Inside::begin()?;
        story
            .env
            .set("NODE_PATH", installed("BOUGH_TEST_NODE_MODULES")?);
        story.fill_up(1000)?;
        let url = story.source_url();
        let Some(inside) = Inside::start(&mut story, "deployment/db", "*", &url)? else {
            story.end()?;
            return Ok(None);
        };
        let page = server("neighbour", PAGE_PORT)?;
        let words = ["local", "run", "deployment/pages", "-n", NAMESPACE];
        let mut command = story.env.command(words);
        command.args(["--network", "own", "--"]).args(page);
        story.env.start(command)?.finish(LIMIT)?.success()?;
        let database_url = url.replace("127.0.0.1", DATABASE_HOST);
        let told = format!("DATABASE_URL={database_url}");
        let published = deploy_with(&story, &["--env", &told])?;
        wait_for_target(published)?;
        Ok(Some(Self {
            branch_file: story.branch_file(|_| {})?,
            page_url: format!("http://{PAGE_HOST}:{PAGE_PORT}/page"),
            story,
            inside,
            published,
            database_url,
        }))
    }

    /// The address that a name has in the service's own table of hosts.
    fn address_of(&self, host: &str) -> Result<String> {
        let targets = fs::read_dir(self.story.data().join("targets"))?;
        // What is no target's folder has no such table.
        let table = |entry: io::Result<DirEntry>| fs::read_to_string(entry?.path().join("hosts"));
        let tables: Vec<String> = targets.filter_map(|entry| table(entry).ok()).collect();
        let of_host = |line: &&str| line.split_whitespace().skip(1).any(|name| name == host);
        let mut lines = tables.iter().flat_map(|table| table.lines());
        let line = lines.find(of_host).with_context(|| format!("no {host}"))?;
        let address = line.split_whitespace().next();
        Ok(address.context("a line has an address")?.to_owned())
    }

    fn stock(&self) -> Result<i64> {
        Ok(self.inside.stock()?.parse()?)
    }

    /// The words by which a client is told where to.
    fn words(&self, words: &[String], url: &str) -> Vec<String> {
        let told = format!("DATABASE_URL={}", self.database_url);
        let words = words.iter().map(|word| word.replace("{url}", url));
        ["env".to_owned(), told].into_iter().chain(words).collect()
    }

    fn session(&self, file: &Path, flags: &[&str], words: &[String]) -> Result<Session> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run_with(&self.story, file, flags, &words)
    }

    /// Outgoing by name, and DNS.
    fn outgoing(&self, dials: &Dials) -> Result<[Cell; 2]> {
        let file = network_file(&self.story, &json!({"incoming": "off"}))?;
        let (host, words) = match dials {
            Dials::Page(words) => (PAGE_HOST, self.words(words, &self.page_url)),
            Dials::Database(words) => (DATABASE_HOST, self.words(words, &self.database_url)),
            Dials::Service => return Ok(self.outgoing_service(&file).map(Some)),
        };
        let before = self.stock()?;
        let session = self.session(&file, &[], &words)?;
        let reached = || -> Result<()> {
            let said = &session.outcome.stdout;
            ensure!(session.outcome.status.success(), "{:?}", session.outcome);
            match dials {
                Dials::Page(_) => ensure!(said.trim() == "neighbour /page", "{said}"),
                Dials::Database(_) | Dials::Service => {
                    let taken = before - TAKEN;
                    ensure!(stock_in(said)? == taken, "{said} is not {taken}");
                    ensure!(self.stock()? == taken, "the shared database has it");
                }
            }
            ensure!(session.through_target() >= 1, "{}", session.report);
            Ok(())
        };
        let looked_up = || -> Result<()> {
            let address = self.address_of(host)?;
            // psql has words of its own for it.
            let ways = [
                format!("{host} is {address}"),
                format!("(address \"{address}\")"),
            ];
            let all = [&*session.outcome.stdout, &session.outcome.stderr].concat();
            ensure!(ways.iter().any(|way| all.contains(way)), "{ways:?}: {all}");
            Ok(())
        };
        Ok([Some(reached()), Some(looked_up())])
    }

    /// The same of the service, which says no address: it is the one that it went to.
    fn outgoing_service(&self, file: &Path) -> [Result<()>; 2] {
        let report = self.service(file, &[], |port| {
            let answer = http::get(port, "/api/inventory/1")?.body;
            let stock = self.stock()?;
            ensure!(
                answer.contains(&format!("\"stock_quantity\":{stock}")),
                "{answer}"
            );
            Ok(())
        });
        let looked_up = || -> Result<()> {
            let report = report.as_ref().map_err(|error| anyhow!("{error:#}"))?;
            let address = self.address_of(DATABASE_HOST)?;
            let port = self.story.source.port();
            let (begun, through) = report.reached(&format!("{address}:{port}"));
            ensure!(begun >= 1 && begun == through, "{}", report.report);
            Ok(())
        };
        let looked_up = looked_up();
        [report.map(drop), looked_up]
    }

    /// Runs the shop's service in a session, told the database by its name, asks it, and ends it.
    fn service(
        &self,
        file: &Path,
        flags: &[&str],
        ask: impl FnOnce(u16) -> Result<()>,
    ) -> Result<Session> {
        let port = free_port()?;
        let words = ["inventory", "--port", &port.to_string()].map(str::to_owned);
        let words = self.words(&words, "");
        let report = self.story.env.home().join("report.json");
        let mut command = self.story.env.command(["exec", "-f"]);
        command.arg(file).arg("--report").arg(&report).args(flags);
        command.arg("--").args(words);
        let mut session = self.story.env.start(command)?;
        session.wait_for(LIMIT, |_, stderr| stderr.contains("listening"))?;
        ask(port)?;
        session.signal(Signal::INT)?;
        let outcome = session.finish(LIMIT)?.exit_code(0)?;
        let report = serde_json::from_slice(&fs::read(&report)?)?;
        Ok(Session { outcome, report })
    }

    /// A copy reaches the client's server, and the target answers.
    fn mirror(&self, server: &Server) -> Result<()> {
        let network = json!({"incoming": "mirror"});
        let mut session = serve_by(&self.story, &network, &server.program)?;
        let answer = ask(self.published, server.path)?;
        ensure!(answer == format!("target {}", server.path), "{answer}");
        session.wait_for(LIMIT, |stdout, stderr| {
            let mut lines = stdout.lines().chain(stderr.lines());
            lines.any(|line| line.split(' ').any(|word| is_path(word, server.path)))
        })?;
        self.end_server(session)
    }

    /// The client's server answers in the target's place.
    fn steal(&self, server: &Server) -> Result<()> {
        let network = json!({"incoming": "steal"});
        let session = serve_by(&self.story, &network, &server.program)?;
        let answer = ask(self.published, server.path)?;
        ensure!(answer.contains(server.answer), "{answer}");
        self.end_server(session)
    }

    fn end_server(&self, mut session: Program) -> Result<()> {
        session.signal(Signal::TERM)?;
        let outcome = session.finish(LIMIT)?;
        // Some stop by themselves when they are told, the others die of it.
        let codes = [Some(0), Some(128 + Signal::TERM.as_raw())];
        ensure!(codes.contains(&outcome.status.code()), "{outcome:?}");
        wait_for_target(self.published)
    }

    /// Whoever names the source ends in the branch; what is no database goes where it was going.
    fn fence(&self, dials: &Dials) -> Result<()> {
        let flags = ["--assert-isolated"];
        let before = self.stock()?;
        let session = match dials {
            Dials::Page(words) => {
                let words = self.words(words, &self.page_url);
                let session = self.session(&self.branch_file, &flags, &words)?;
                ensure!(
                    session.outcome.stdout.trim() == "neighbour /page",
                    "{:?}",
                    session.outcome
                );
                session
            }
            Dials::Database(words) => {
                let words = self.words(words, &self.database_url);
                let session = self.session(&self.branch_file, &flags, &words)?;
                let said = first_line(&session.outcome.stdout)?;
                let identity = self.story.branch(BRANCH)?["identity"].clone();
                ensure!(said["cluster_name"] == identity, "{said} is not {identity}");
                session
            }
            Dials::Service => self.service(&self.branch_file, &flags, |port| {
                let body = r#"{"items":[{"productId":"1","quantity":1}]}"#;
                let answer = http::post(port, "/api/inventory/reserve", body)?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            })?,
        };
        if !matches!(dials, Dials::Page(_)) {
            let redirected = session.report["branches"][0]["redirected"].as_u64();
            ensure!(redirected >= Some(1), "{}", session.report);
        }
        ensure!(session.report["isolated"] == true, "{}", session.report);
        ensure!(self.stock()? == before, "the source is untouched");
        Ok(())
    }

    fn row(&self, client: &Client) -> [Cell; 5] {
        let outgoing = self.outgoing(&client.dials);
        let [outgoing, dns] =
            outgoing.unwrap_or_else(|error| [Some(Err(error)), Some(Err(anyhow!("no session")))]);
        let server = client.server.as_ref();
        [
            outgoing,
            dns,
            server.map(|server| self.mirror(server)),
            server.map(|server| self.steal(server)),
            Some(self.fence(&client.dials)),
        ]
    }
}

/// Whether a word of a log is this path, bare or as the value of a field.
fn is_path(word: &str, path: &str) -> bool {
    word == path
        || word
            .split_once('=')
            .is_some_and(|(_, value)| value.trim_matches('"') == path)
}

fn first_line(said: &str) -> Result<Value> {
    let line = said.lines().next().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("read {said:?}"))
}

fn stock_in(said: &str) -> Result<i64> {
    first_line(said)?["stock"]
        .as_i64()
        .context("it says the stock")
}

/// The table as Markdown, and what does not hold.
fn table(rows: &[(String, [Cell; 5])]) -> (String, Vec<String>) {
    let head = format!(
        "| {} |\n|{}",
        COLUMNS.join(" | "),
        "---|".repeat(COLUMNS.len())
    );
    let (mut lines, mut failures) = (vec![head], Vec::new());
    for (name, cells) in rows {
        let mut line = vec![name.as_str()];
        for (cell, column) in cells.iter().zip(&COLUMNS[1..]) {
            line.push(match cell {
                None => "-",
                Some(Ok(())) => "yes",
                Some(Err(error)) => {
                    failures.push(format!("{name}: {column}: {error:#}"));
                    "NO"
                }
            });
        }
        lines.push(format!("| {} |", line.join(" | ")));
    }
    (lines.join("\n"), failures)
}

#[test]
fn every_client_has_every_feature_and_the_table_of_the_guide_is_this_one() -> Result<()> {
    let Some(ground) = Ground::make()? else {
        return Ok(());
    };
    let mut rows = Vec::new();
    for client in clients::all(&ground.story.env.home())? {
        let row = ground.row(&client);
        rows.push((client.name, row));
    }
    let (table, failures) = table(&rows);
    println!("{table}");
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    ensure!(
        DOCUMENTED.contains(&table),
        "docs/guide/clients.md has another table"
    );
    ground.story.end()
}
