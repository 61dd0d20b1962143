//! The clients of the matrix: the programs, in the words that a session is given.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fixtures::built_binary;

use crate::clients::{installed, source_of};
use crate::fence::matrix::programs;
use crate::network::incoming::PORT;

/// What `psql` is asked; it says as the other clients do.
const ASK: &str = "WITH taken AS (UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1' \
                   RETURNING stock_quantity) SELECT json_build_object('stock', stock_quantity, \
                   'cluster_name', current_setting('cluster_name')) FROM taken";
/// What a client does with the world, `{url}` in its words for where to.
pub(super) enum Dials {
    /// Fetches a page.
    Page(Vec<String>),
    /// Takes from the stock in the database.
    Database(Vec<String>),
    /// Is the shop's own service, over the database.
    Service,
}

/// What a client listens by.
pub(super) struct Server {
    pub(super) program: Vec<String>,
    /// What it is asked for, and says on its standard output or in its log.
    pub(super) path: &'static str,
    /// A part of its answer.
    pub(super) answer: &'static str,
}

pub(super) struct Client {
    pub(super) name: String,
    pub(super) dials: Dials,
    pub(super) server: Option<Server>,
}

fn text(path: PathBuf) -> Result<String> {
    path.to_str().map(str::to_owned).context("a path is text")
}

fn script(language: &str, name: &str) -> Result<String> {
    text(source_of(language, name))
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A server that says each path, and answers `session` and the path, started with what follows these words.
fn server_by(words: &[&str], more: &[&str]) -> Server {
    let port = PORT.to_string();
    Server {
        program: texts(&[words, &["session", &port], more].concat()),
        path: "/a",
        answer: "session /a",
    }
}

fn page(name: &str, words: &[&str], server: Option<Server>) -> Client {
    Client {
        name: name.to_owned(),
        dials: Dials::Page(texts(words)),
        server,
    }
}

/// Every client, those of pages first. What is compiled goes to `scratch`.
pub(super) fn all(scratch: &Path) -> Result<Vec<Client>> {
    let mut clients = of_pages(&compile_java(scratch)?)?;
    clients.extend(of_databases()?);
    Ok(clients)
}

/// Compiles the Java programs once, which would be compiled at each start otherwise; gives the directory of their classes.
fn compile_java(scratch: &Path) -> Result<String> {
    let classes = text(scratch.join("classes"))?;
    let mut javac = Command::new("javac");
    javac.args(["-d", &classes]);
    javac.args(["Fetch.java", "Serve.java"].map(|name| source_of("java", name)));
    let outcome = javac.output().context("run javac")?;
    ensure!(outcome.status.success(), "{outcome:?}");
    Ok(classes)
}

fn of_pages(classes: &str) -> Result<Vec<Client>> {
    let python = text(installed("BOUGH_TEST_PYTHON")?.into())?;
    let requests = script("python", "requests_client.py")?;
    let go = text(built_binary("BOUGH_TEST_GO_CLIENT")?)?;
    let (of_python, of_node) = (script("python", "serve.py")?, script("node", "serve.js")?);
    let (of_php, php) = (script("php", "serve.php")?, script("php", "client.php")?);
    let node = script("node", "fetch.js")?;
    let (fetch, of_java) = (
        ["java", "-cp", classes, "Fetch"],
        ["java", "-cp", classes, "Serve"],
    );
    let everywhere = format!("0.0.0.0:{PORT}");
    let curl_says = "%{stderr}pages.metalmart is %{remote_ip}\n";
    let php_server = Server {
        program: texts(&["env", "SERVE_AS=session", "php", "-S", &everywhere, &of_php]),
        ..server_by(&[], &[])
    };
    Ok(vec![
        page("curl", &["curl", "-sS", "-w", curl_says, "{url}"], None),
        page(
            "Python requests, http.server",
            &[&python, &requests, "{url}"],
            Some(server_by(&[&python, &of_python], &[])),
        ),
        page(
            "Node http",
            &["node", &node, "http", "{url}"],
            Some(server_by(&["node", &of_node], &[])),
        ),
        page("Node fetch", &["node", &node, "fetch", "{url}"], None),
        page(
            "Java HttpClient, HttpServer",
            &[&fetch[..], &["{url}"]].concat(),
            Some(server_by(&of_java, &[])),
        ),
        page(
            "Java NIO",
            &[&fetch[..], &["{url}", "nio"]].concat(),
            Some(server_by(&of_java, &["nio"])),
        ),
        page(
            "Go net/http, static",
            &[&go, "{url}"],
            Some(server_by(&[&go, "serve"], &[])),
        ),
        page(
            "PHP streams, its own server",
            &["php", &php, "{url}"],
            Some(php_server),
        ),
    ])
}

fn of_databases() -> Result<Vec<Client>> {
    let python = text(installed("BOUGH_TEST_PYTHON")?.into())?;
    let of_python = script("python", "serve.py")?;
    let psql = text(fixtures::tool(15, "psql")?)?;
    let psql = texts(&[&psql, "-XAtq", "-c", ASK, "-c", "\\conninfo", "{url}"]);
    let database = |name: &str, program, server| Client {
        name: name.to_owned(),
        dials: Dials::Database(program),
        server,
    };
    let mut clients = vec![database("psql", psql, None)];
    for (name, program) in programs()? {
        clients.push(match name {
            "Python asyncpg" => {
                let asyncio = server_by(&[&python, &of_python], &["asyncio"]);
                database("Python asyncpg, asyncio", program, Some(asyncio))
            }
            name => database(name, program, None),
        });
    }
    let port = PORT.to_string();
    clients.push(Client {
        name: "Rust tokio-postgres, axum".to_owned(),
        dials: Dials::Service,
        server: Some(Server {
            program: texts(&["inventory", "--host", "0.0.0.0", "--port", &port]),
            path: "/api/inventory/1",
            answer: "stock_quantity",
        }),
    });
    Ok(clients)
}
