//! The usual drivers, each told the database by a name that only the target knows, with no branch: every connection is
//! made at the target. Printed as a table, whose every cell must hold.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, http};
use serde_json::{Value, json};

use super::own_source::Inside;
use super::{network_file, run};
use crate::clients::installed;
use crate::fence::matrix;
use crate::story::{LIMIT, NAMESPACE, TARGET, free_port};

/// What `psql` is asked, and says as the other clients do.
const ASK: &str = "WITH taken AS (UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1' \
                   RETURNING stock_quantity) SELECT json_build_object('stock', stock_quantity) FROM taken";

#[test]
fn every_driver_reaches_the_database_that_the_target_knows() -> Result<()> {
    let mut story = Inside::begin()?;
    story
        .env
        .set("NODE_PATH", installed("BOUGH_TEST_NODE_MODULES")?);
    let url = story.source_url();
    let Some(inside) = Inside::start(&mut story, "deployment/db", "*", &url)? else {
        return story.end();
    };
    let url = url.replace("127.0.0.1", "db");
    let target = ["local", "run", TARGET, "-n", NAMESPACE, "--network", "own"];
    let mut command = story.env.command(target);
    command.args(["--", "sleep", "100000"]);
    story.env.start(command)?.finish(LIMIT)?.success()?;
    let file = network_file(&story, &json!({"incoming": "off"}))?;
    let psql = fixtures::tool(15, "psql")?;
    let psql = psql.to_str().context("a path is text")?;
    let psql = [psql, "-XAtq", "-c", ASK, &url].map(str::to_owned);
    let mut clients = vec![("psql".to_owned(), psql.to_vec())];
    for (name, program) in matrix::programs()? {
        clients.push((name.to_owned(), program));
    }
    println!("{:<30} through the target", "client");
    let mut left = 100;
    for (name, program) in clients {
        let told = format!("DATABASE_URL={url}");
        let mut words = vec!["env", &told];
        words.extend(program.iter().map(String::as_str));
        let session = run(&story, &file, &words)?;
        let (reached, all) = (
            session.through_target(),
            session.report["others"].to_string(),
        );
        let said = session.outcome.success()?;
        let said: Value = serde_json::from_str(&said).with_context(|| format!("{name}: {said}"))?;
        left -= 7;
        ensure!(said["stock"] == left, "{name}: {said} is not {left}");
        ensure!(reached >= 1, "{name}: {all}");
        println!("{name:<30} yes");
    }
    assert_eq!(inside.stock()?, left.to_string());
    // Rust: tokio-postgres behind deadpool, in the inventory service itself.
    let port = free_port()?;
    let (told, port_word) = (format!("DATABASE_URL={url}"), port.to_string());
    let service = ["env", &told, "inventory", "--port", &port_word];
    let mut session = story.env.start(story.exec(&file, &service))?;
    session.wait_for(LIMIT, |_, stderr| stderr.contains("listening"))?;
    let answer = http::get(port, "/api/inventory/1")?.body;
    ensure!(
        answer.contains(&format!("\"stock_quantity\":{left}")),
        "{answer}"
    );
    session.signal(Signal::INT)?;
    drop(session.finish(LIMIT)?.exit_code(0)?);
    println!("{:<30} yes", "Rust tokio-postgres");
    story.end()
}
