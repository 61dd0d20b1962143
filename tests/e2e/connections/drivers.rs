//! The usual drivers of other languages, each with its variables in the form that its programs have them in.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{TAKEN, deploy, take};
use crate::clients::{installed, source_of};

/// A file's connection, and the program that makes of its variables what its driver takes.
struct Client {
    name: &'static str,
    connection: Value,
    program: Vec<String>,
}

fn parts() -> Value {
    json!({"params": {
        "host": "DB_HOST", "port": "DB_PORT", "user": "DB_USER", "password": "DB_PASSWORD", "database": "DB_NAME",
    }})
}

/// A program of psycopg with these arguments of its `connect`.
fn python(name: &'static str, connection: Value, arguments: &str) -> Result<Client> {
    let python = PathBuf::from(installed("BOUGH_TEST_PYTHON")?);
    let script = format!(
        "import os, psycopg
e = os.environ
with psycopg.connect({arguments}) as c:
    c.execute(\"UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1'\")
    print(c.execute('SHOW cluster_name').fetchone()[0])
"
    );
    let python = python.to_str().context("a path is text")?;
    Ok(Client {
        name,
        connection,
        program: vec![python.to_owned(), "-c".to_owned(), script],
    })
}

fn java(source: &str) -> Result<Client> {
    let driver = PathBuf::from(installed("BOUGH_TEST_JDBC")?);
    let driver = driver.to_str().context("a path is text")?;
    let jdbc = |pattern: &str| json!({"env_var_name": "JDBC_URL", "value_pattern": pattern});
    Ok(Client {
        name: "Java, a JDBC url",
        connection: json!({"params": {
            "host": jdbc("//([^:/]+)"), "port": jdbc("//[^:/]+:([0-9]+)"), "user": jdbc("user=([^&]+)"),
            "password": jdbc("password=([^&]+)"), "database": jdbc("//[^/]+/([^?]+)"),
        }}),
        program: ["java", "-cp", driver, source].map(str::to_owned).into(),
    })
}

#[test]
fn other_languages_drivers_reach_the_branch_by_the_variables_that_they_read() -> Result<()> {
    let mut story = deploy()?;
    story
        .env
        .set("NODE_PATH", installed("BOUGH_TEST_NODE_MODULES")?);
    let (node, source) = (
        source_of("node", "parts.js"),
        source_of("java", "Jdbc.java"),
    );
    let node = node.to_str().context("a path is text")?;
    let clients = [
        python(
            "Python, keywords",
            json!({"type": "env", "url": "DSN"}),
            "e['DSN']",
        )?,
        python(
            "Python, a variable for each part",
            parts(),
            "host=e['DB_HOST'], port=e['DB_PORT'], user=e['DB_USER'], password=e['DB_PASSWORD'], dbname=e['DB_NAME']",
        )?,
        python(
            "Python, host and port in one variable",
            json!({"params": {
                "host": "DB_ADDRESS", "user": "DB_USER", "password": "DB_PASSWORD", "database": "DB_NAME",
            }}),
            "host=e['DB_ADDRESS'].split(':')[0], port=e['DB_ADDRESS'].split(':')[1], user=e['DB_USER'], \
             password=e['DB_PASSWORD'], dbname=e['DB_NAME']",
        )?,
        Client {
            name: "Node, a variable for each part",
            connection: parts(),
            program: ["node", node].map(str::to_owned).into(),
        },
        java(source.to_str().context("a path is text")?)?,
    ];
    let mut left = 100;
    for client in clients {
        left -= TAKEN;
        let program: Vec<&str> = client.program.iter().map(String::as_str).collect();
        take(&story, client.name, &client.connection, &program, left)?;
    }
    story.end()
}
