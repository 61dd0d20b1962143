//! A shared database that only the target reaches: it listens in the target's own network, or another target is it.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use fixtures::{Options, sql};

use super::is_not_possible;
use crate::story::{BRANCH, LIMIT, NAMESPACE, PASSWORD, ROLE, Story, TARGET, assert_says};

/// Takes a product out of a database's stock, and says what is left.
const TAKE: &str = "UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1' \
                    RETURNING stock_quantity";

/// Runs a server that is told TERM as one that is told INT: the other waits for its clients.
const STOP_FAST: &str = r#"trap 'kill -INT $!' TERM; "$@" & wait; wait"#;

/// The shared database's server, moved into a target of its own.
pub(super) struct Inside {
    /// By its socket, which is a file and no address of any network.
    url: String,
}

impl Inside {
    /// A story whose shared database lets other targets in.
    pub(super) fn begin() -> Result<Story> {
        Story::over(Options::new(16).hba("host all all 198.18.0.0/15 scram-sha-256"))
    }

    /// Stops the story's server and starts it again as `target`, with `url` in its environment. None, said loudly, where
    /// the machine allows the target no network of its own.
    pub(super) fn start(
        story: &mut Story,
        target: &str,
        address: &str,
        url: &str,
    ) -> Result<Option<Self>> {
        story.source.stop()?;
        let (data, sockets) = (
            story.source.data_directory(),
            story.source.socket_directory(),
        );
        let owner = std::fs::metadata(&data)?;
        let server = story.source.binaries().program("postgres");
        let listen = format!("listen_addresses={address}");
        let socket = format!("unix_socket_directories={}", sockets.display());
        let port = story.source.port().to_string();
        let mut command = story.env.command([
            "local",
            "run",
            target,
            "-n",
            NAMESPACE,
            "--network",
            "own",
            "--env",
        ]);
        command.arg(format!("DATABASE_URL={url}")).arg("--");
        command.args(["sh", "-c", STOP_FAST, "sh"]);
        if is_root() {
            // PostgreSQL refuses to be root.
            command.args(["setpriv", "--clear-groups"]);
            command.arg(format!("--reuid={}", owner.uid()));
            command.arg(format!("--regid={}", owner.gid()));
        }
        command.arg(server).arg("-D").arg(&data);
        command.args(["-p", &port, "-c", &listen, "-c", &socket]);
        let started = story.env.start(command)?.finish(LIMIT)?;
        if is_not_possible(&started)? {
            return Ok(None);
        }
        started.success()?;
        let host = sockets
            .to_str()
            .context("a path is text")?
            .replace('/', "%2F");
        let url = format!("postgres://{ROLE}:{PASSWORD}@{host}:{port}/{ROLE}");
        fixtures::eventually("a server in the target", LIMIT, || {
            Ok(sql::query_value(&url, "SELECT 1").ok())
        })?;
        Ok(Some(Self { url }))
    }

    /// The stock of product 1 there.
    pub(super) fn stock(&self) -> Result<String> {
        let asked = "SELECT stock_quantity FROM products WHERE product_id = '1'";
        sql::query_value(&self.url, asked)
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Takes from the stock in a session, by its own `DATABASE_URL`; what is left.
fn take(story: &Story, file: &std::path::Path) -> Result<(String, String)> {
    let script = format!("psql \"$DATABASE_URL\" -Atqc \"{TAKE}\"");
    let outcome = story.run_session(file, &["sh", "-c", &script])?;
    let outcome = outcome.exit_code(0)?;
    Ok((outcome.stdout.trim().to_owned(), outcome.stderr))
}

#[test]
fn a_database_on_the_targets_own_loopback_is_branched() -> Result<()> {
    let mut story = Story::begin()?;
    let (port, url) = (story.source.port(), story.source_url());
    let Some(inside) = Inside::start(&mut story, TARGET, "127.0.0.1", &url)? else {
        return story.end();
    };
    // Whoever dials this address here hangs.
    let _stranger = TcpListener::bind(("127.0.0.1", port))?;
    let file = story.branch_file(|_| {})?;
    let (left, told) = take(&story, &file)?;
    assert_eq!(left, "93");
    assert_says(
        &told,
        &[&format!("in the network of {TARGET} -n {NAMESPACE}"), "new"],
    )?;
    assert_eq!(inside.stock()?, "100", "the source is untouched");
    let (left, told) = take(&story, &file)?;
    assert_eq!(left, "86", "the same branch");
    assert_says(&told, &["reused"])?;
    let branch = story.branch(BRANCH)?;
    assert_eq!(
        branch["spec"]["network"],
        format!("{TARGET} -n {NAMESPACE}")
    );
    // What is committed there before a branch is asked for is in it.
    sql::execute(
        &inside.url,
        "UPDATE products SET stock_quantity = 50 WHERE product_id = '1'",
    )?;
    let other = story.branch_file(|file| file["db_branches"][0]["id"] = "another".into())?;
    assert_eq!(take(&story, &other)?.0, "43");
    assert_eq!(inside.stock()?, "50");
    story.end()
}

#[test]
fn a_database_that_is_another_target_is_branched_by_its_name() -> Result<()> {
    let mut story = Inside::begin()?;
    let (port, url) = (story.source.port(), story.source_url());
    let Some(inside) = Inside::start(&mut story, "deployment/db", "*", &url)? else {
        return story.end();
    };
    let url = url.replace("127.0.0.1", "db");
    let mut command = story
        .env
        .command(["local", "run", TARGET, "-n", NAMESPACE, "--env"]);
    command.arg(format!("DATABASE_URL={url}"));
    command.args(["--", "sleep", "100000"]);
    story.env.start(command)?.finish(LIMIT)?.success()?;
    let file = story.branch_file(|_| {})?;
    let (left, told) = take(&story, &file)?;
    assert_eq!(left, "93");
    assert_says(&told, &[&format!("db:{port}"), "in the network of"])?;
    // A program that dials the name itself is fenced as anywhere.
    let script = format!("psql '{url}' -Atqc \"{TAKE}\"");
    let fenced = story
        .run_session(&file, &["sh", "-c", &script])?
        .success()?;
    assert_eq!(fenced.trim(), "86");
    assert_eq!(inside.stock()?, "100", "the source is untouched");
    // Once it has ended, whoever asks anew is told.
    story
        .bough(&["local", "stop", "deployment/db", "-n", NAMESPACE])?
        .success()?;
    let other = story.branch_file(|file| file["db_branches"][0]["id"] = "another".into())?;
    let refused = story.run_session(&other, &["true"])?.exit_code(4)?;
    ensure!(refused.stderr.contains("db"), "{}", refused.stderr);
    story.end()
}
