//! One user's machine: a shared database with the shop's data, a home and a data directory of their own, and `bough`.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::{
    Binaries, Options, Outcome, Program, Signal, TestEnv, TestPostgres, built_binary, eventually,
    sql,
};
use serde_json::Value;

use crate::traces;

/// Namespace of the target and of the branches, as the shop's files have it.
pub(crate) const NAMESPACE: &str = "metalmart";
/// The deployed service.
pub(crate) const TARGET: &str = "deployment/inventory";
/// The application's role and its database.
pub(crate) const ROLE: &str = "inventory";
/// A password that nothing else on the machine contains: whoever finds it anywhere has found a leak.
pub(crate) const PASSWORD: &str = "pa55-of-the-shop";
/// The branch's id in the shop's file.
pub(crate) const BRANCH: &str = "my-debug-session";
/// For one command, copies included; far above what it takes on a machine that runs several stories at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// The tables of the shop with its stock, as the service itself makes them.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../demo/metalmart/migrations/V1__create_products.sql"),
    include_str!("../../demo/metalmart/migrations/V2__stock_the_shop.sql"),
];

/// A user, their shared database, and `bough` between them.
#[derive(Debug)]
pub(crate) struct Story {
    /// The user's environment; dropped first, since its processes use the source.
    pub(crate) env: TestEnv,
    /// The shared database.
    pub(crate) source: TestPostgres,
    files: Cell<u32>,
}

impl Story {
    /// A story over PostgreSQL 16.
    pub(crate) fn begin() -> Result<Self> {
        Self::over(Options::new(16))
    }

    /// A story over a server with these options.
    pub(crate) fn over(options: Options) -> Result<Self> {
        let source = options.start()?;
        let role = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'");
        source.execute("postgres", &role)?;
        source.execute("postgres", &format!("CREATE DATABASE {ROLE} OWNER {ROLE}"))?;
        let url = source.url(ROLE, PASSWORD, ROLE);
        for statements in MIGRATIONS {
            sql::execute(&url, statements)?;
        }
        let inventory = built_binary("INVENTORY_BIN")?;
        let mut env = TestEnv::new(built_binary("BOUGH_BIN")?)?;
        let mut path: OsString = inventory
            .parent()
            .context("a program is in a directory")?
            .into();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        env.set("PATH", path);
        if std::env::var_os("BOUGH_POSTGRES_PATH").is_none() {
            // Where this account's own engine would look; the story's has a data directory of its own.
            let binaries = Binaries::find(source.major())?;
            let root = binaries
                .bin()
                .ancestors()
                .nth(2)
                .context("MAJOR/bin is in a directory")?;
            env.set("BOUGH_POSTGRES_PATH", root);
        }
        env.set("BOUGH_SOURCE_URL", url);
        Ok(Self {
            env,
            source,
            files: Cell::new(0),
        })
    }

    /// The application's URL of the shared database.
    pub(crate) fn source_url(&self) -> String {
        self.source.url(ROLE, PASSWORD, ROLE)
    }

    /// Gives product 1 a stock that many clients can take from.
    pub(crate) fn fill_up(&self, stock: i64) -> Result<()> {
        let filled = format!("UPDATE products SET stock_quantity = {stock} WHERE product_id = '1'");
        sql::execute(&self.source_url(), &filled)
    }

    /// The engine's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.env.data_directory()
    }

    /// Runs `bough` to its end.
    pub(crate) fn bough(&self, words: &[&str]) -> Result<Outcome> {
        self.env.run(words, LIMIT)
    }

    /// What a command of `bough` answers with `-o json`.
    pub(crate) fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.bough(&[words, &["-o", "json"]].concat())?.success()?;
        serde_json::from_str(&text).with_context(|| format!("read {words:?} as JSON: {text}"))
    }

    /// Makes a branch of the shared database, without target or file, in the namespace `default`; gives its URL.
    pub(crate) fn create(&self, id: &str, flags: &[&str]) -> Result<String> {
        let answer = self.json(&[&["db-branches", "create", id], flags].concat())?;
        let url = answer["url"].as_str().context("the answer has a URL")?;
        Ok(url.to_owned())
    }

    /// Every branch, in every namespace.
    pub(crate) fn branches(&self) -> Result<Vec<Value>> {
        let status = self.json(&["db-branches", "-A", "status"])?;
        Ok(status.as_array().context("status is a list")?.clone())
    }

    /// The one branch with this id.
    pub(crate) fn branch(&self, id: &str) -> Result<Value> {
        let branches = self.branches()?;
        let found = branches.iter().find(|branch| branch["id"] == id);
        found
            .cloned()
            .with_context(|| format!("no branch {id} among {branches:?}"))
    }

    /// Waits until a branch is gone.
    pub(crate) fn wait_gone(&self, id: &str, limit: Duration) -> Result<()> {
        eventually(&format!("the end of branch {id}"), limit, || {
            let branches = self.branches()?;
            Ok((!branches.iter().any(|branch| branch["id"] == id)).then_some(()))
        })
    }

    /// Registers a target that has the shared database in its environment and does nothing.
    pub(crate) fn deploy_idle(&self) -> Result<()> {
        self.deploy(&["--", "sleep", "100000"])
    }

    /// Registers the target with these further words, the shared database in its environment.
    pub(crate) fn deploy(&self, words: &[&str]) -> Result<()> {
        let mut command = self
            .env
            .command([&["local", "run", TARGET, "-n", NAMESPACE], words].concat());
        command.env("DATABASE_URL", self.source_url());
        self.env.start(command)?.finish(LIMIT)?.success()?;
        Ok(())
    }

    /// The shop's file with a branch, changed; its path.
    pub(crate) fn branch_file(&self, change: impl FnOnce(&mut Value)) -> Result<PathBuf> {
        let text = fs::read_to_string(shop_file("inventory-db-branch.json"))?;
        let mut file: Value = serde_json::from_str(&text).context("the shop's file is JSON")?;
        change(&mut file);
        let number = self.files.replace(self.files.get() + 1);
        let path = self.env.home().join(format!("session-{number}.json"));
        fs::write(&path, file.to_string()).context("write a session's file")?;
        Ok(path)
    }

    /// `bough exec` with a file.
    pub(crate) fn exec(&self, file: &Path, program: &[&str]) -> Command {
        let mut command = self.env.command(["exec", "-f"]);
        command.arg(file).arg("--").args(program);
        command
    }

    /// Runs a session to its end.
    pub(crate) fn run_session(&self, file: &Path, program: &[&str]) -> Result<Outcome> {
        self.env.start(self.exec(file, program))?.finish(LIMIT)
    }

    /// Starts a session whose program says its database's URL and goes on; gives both.
    pub(crate) fn start_session(&self, file: &Path) -> Result<(Program, String)> {
        let script = r#"printf 'pid=%s\nurl=%s\n' $$ "$DATABASE_URL"; exec sleep 100000"#;
        let mut session = self.env.start(self.exec(file, &["sh", "-c", script]))?;
        session.wait_for(LIMIT, |stdout, _| stdout.lines().count() == 2)?;
        let url = said(&session, "url=")?;
        Ok((session, url))
    }

    /// Ends everything of `bough` as a user would, and looks for what stays.
    pub(crate) fn end(self) -> Result<()> {
        for target in self
            .json(&["local", "ls"])?
            .as_array()
            .context("ls is a list")?
        {
            let word = |key: &str| {
                target[key]
                    .as_str()
                    .with_context(|| format!("a target has {key}"))
            };
            self.bough(&["local", "stop", word("target")?, "-n", word("namespace")?])?
                .success()?;
        }
        self.bough(&["db-branches", "-A", "destroy", "--all"])?
            .success()?;
        self.bough(&["engine", "stop", "--servers"])?.success()?;
        traces::assert_none(&self.env)
    }
}

/// A file of the shop, byte for byte as its users have it.
pub(crate) fn shop_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../demo/metalmart/.mirrord")
        .join(name)
}

/// What the program of [`Story::start_session`] said after `pid=` or `url=`.
pub(crate) fn said(session: &Program, key: &str) -> Result<String> {
    let stdout = session.stdout()?;
    let found = stdout.lines().find_map(|line| line.strip_prefix(key));
    found
        .map(str::to_owned)
        .with_context(|| format!("no {key} in {stdout}"))
}

/// Ends a session that [`Story::start_session`] began, whose program dies of the signal; gives what it said of itself.
pub(crate) fn end_session(mut session: Program) -> Result<String> {
    session.signal(Signal::TERM)?;
    Ok(session
        .finish(LIMIT)?
        .exit_code(128 + Signal::TERM.as_raw())?
        .stderr)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// The stock of product 1 in a database: what can be reserved, and what is.
pub(crate) fn stock(url: &str) -> Result<(i64, i64)> {
    let rows = sql::query(
        url,
        "SELECT stock_quantity, reserved_quantity FROM products WHERE product_id = '1'",
    )?;
    let number = |column: usize| rows.first()?.get(column)?.as_ref()?.parse().ok();
    let found = (number(0), number(1));
    let (Some(free), Some(reserved)) = found else {
        anyhow::bail!("product 1 is {rows:?}");
    };
    Ok((free, reserved))
}

/// That a text says all of these.
pub(crate) fn assert_says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    Ok(())
}
