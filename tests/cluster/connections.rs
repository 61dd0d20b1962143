//! A service whose pod has its connection in every form by which Kubernetes gives variables, and the usual drivers under
//! `exec` that read them: each reaches the branch, and the shared database stays as it was.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixtures::{TestEnv, built_binary};
use serde_json::{Value, json};

use crate::kubernetes::{Cluster, LIMIT, Namespace, restricted_pod};
use crate::sessions::json as answer;
use crate::stage::Stage;

/// The one branch of all of them.
const BRANCH: &str = "every-form";

/// What each program takes from the stock of 100.
const TAKEN: i64 = 7;

const STOCK: &str = "SELECT stock_quantity FROM products WHERE product_id = '1'";

/// The shop's database, as its programs are told of it; the file with its Secret has the password.
const URL: &str = "postgresql://inventory:change-me@postgres:5432/inventory";
const DSN: &str = "host=postgres port=5432 user=inventory password='change-me' dbname=inventory";

/// ConfigMap and Secrets, and two pods with the same container: one whose process shows its environment, and one whose
/// containers share their processes, so that it is taken from the pod as it is written.
fn make(namespace: &Namespace<'_>) -> Result<()> {
    let api = "v1";
    let settings = json!({
        "DB_HOST": "postgres", "DB_PORT": "5432", "DB_NAME": "inventory", "dsn": DSN,
        "settings": "pool=5;server=postgres;port=5432;login=inventory/change-me;db=inventory",
    });
    let login = json!({"USER": "inventory", "PASSWORD": "change-me"});
    namespace.create(&json!({
        "apiVersion": api, "kind": "ConfigMap", "metadata": {"name": "shop"}, "data": settings,
    }))?;
    namespace.create(&json!({
        "apiVersion": api, "kind": "Secret", "metadata": {"name": "login"}, "stringData": login,
    }))?;
    let of_map = |key: &str| json!({"configMapKeyRef": {"name": "shop", "key": key}});
    let container = json!({
        "command": ["sleep", "infinity"],
        "envFrom": [
            {"configMapRef": {"name": "shop"}},
            {"prefix": "DB_", "secretRef": {"name": "login"}},
        ],
        "env": [
            {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}},
            {"name": "DSN", "valueFrom": of_map("dsn")},
            {"name": "SETTINGS", "valueFrom": of_map("settings")},
            {"name": "READER_URL", "value": format!("{URL}?application_name=reader")},
            // As the kubelet puts it together of what stands before it.
            {"name": "JDBC_URL", "value":
                "jdbc:postgresql://$(DB_HOST):$(DB_PORT)/$(DB_NAME)?user=$(DB_USER)&password=$(DB_PASSWORD)"},
        ],
    });
    for (name, shares) in PODS {
        let mut pod = restricted_pod(name, "postgres:16", &container);
        pod["spec"]["shareProcessNamespace"] = json!(shares);
        namespace.create(&pod)?;
    }
    PODS.iter()
        .try_for_each(|(name, _)| namespace.wait_ready(name))
}

/// The pods, and whether their containers share their processes.
const PODS: [(&str, bool); 2] = [("shows", false), ("hides", true)];

/// A file's connection, and the program that makes of its variables what its driver takes.
struct Form {
    name: &'static str,
    connection: Value,
    program: Vec<String>,
}

fn form(name: &'static str, connection: Value, program: &[&str]) -> Form {
    let program = program.iter().map(ToString::to_string).collect();
    Form {
        name,
        connection,
        program,
    }
}

/// A place that `cargo xtask test` installed a driver at.
fn installed(variable: &str) -> Result<String> {
    let place = std::env::var(variable);
    place.with_context(|| format!("{variable} is not set: run `cargo xtask test --cluster`"))
}

fn client(language: &str, file: &str) -> Result<String> {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/clients");
    text(&clients.join(language).join(file))
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path is text")?.to_owned())
}

const PYTHON: &str = r#"
import os, psycopg
with psycopg.connect(os.environ["DSN"]) as c:
    c.execute("UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1'")
    print(c.execute("SHOW cluster_name").fetchone()[0])
"#;

/// What of it psql reads, and both of several URLs in one session.
const PSQL: &str = r#"
IFS=';'; set -- $SETTINGS; unset IFS
test "$1" = pool=5 || exit 1
login=${4#login=}
export PGPASSWORD=${login#*/}
psql="$PSQL -h ${2#server=} -p ${3#port=} -U ${login%%/*} -d ${5#db=}"
$psql -c "UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1'" -c "SHOW cluster_name"
"#;

const SEVERAL: &str = r#"
$PSQL "$DATABASE_URL" -c "UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1'"
test "$($PSQL "$READER_URL" -c 'SHOW application_name')" = reader && $PSQL "$READER_URL" -c 'SHOW cluster_name'
"#;

/// Every form, in the languages whose drivers tests have.
fn forms() -> Result<Vec<Form>> {
    let (node, java) = (client("node", "parts.js")?, client("java", "Jdbc.java")?);
    let python = installed("BOUGH_TEST_PYTHON")?;
    let jdbc = |pattern: &str| json!({"env_var_name": "JDBC_URL", "value_pattern": pattern});
    let part = |pattern: &str| json!({"env_var_name": "SETTINGS", "value_pattern": pattern});
    let go = text(&built_binary("BOUGH_TEST_GO_CLIENT")?)?;
    let php = format!(
        "DATABASE_URL=$HIDDEN_URL exec php {}",
        client("php", "client.php")?
    );
    Ok(vec![
        form(
            "Go, a URL by a Secret's key",
            json!({"url": {"type": "env", "variable": "DATABASE_URL"}}),
            &[&go],
        ),
        form(
            "Python, keywords by a ConfigMap's key",
            json!({"type": "env", "url": "DSN"}),
            &[&python, "-c", PYTHON],
        ),
        form(
            "Node, params by envFrom of a ConfigMap and a Secret",
            json!({"type": "env_from", "params": {
                "host": "DB_HOST", "port": "DB_PORT", "user": "DB_USER", "password": "DB_PASSWORD",
                "database": "DB_NAME",
            }}),
            &["node", &node],
        ),
        form(
            "Java, patterns in a variable that refers to others",
            json!({"params": {
                "host": jdbc("//([^:/]+)"), "port": jdbc("//[^:/]+:([0-9]+)"), "user": jdbc("user=([^&]+)"),
                "password": jdbc("password=([^&]+)"), "database": jdbc("//[^/]+/([^?]+)"),
            }}),
            &["java", "-cp", &installed("BOUGH_TEST_JDBC")?, &java],
        ),
        form(
            "PHP, a literal",
            json!({"url": {"type": "env", "variable": "HIDDEN_URL", "value": URL}}),
            &["sh", "-c", &php],
        ),
        form(
            "psql, parts of a composite by a ConfigMap's key",
            json!({"params": {
                "host": part("server=([^;]+)"), "port": part("port=([0-9]+)"), "user": part("login=([^/]+)/"),
                "password": part("login=[^/]+/([^;]+)"), "database": part("db=([^;]+)"),
            }}),
            &["sh", "-c", PSQL],
        ),
        form(
            "psql, several URLs",
            json!({"url": ["DATABASE_URL", "READER_URL"]}),
            &["sh", "-c", SEVERAL],
        ),
    ])
}

/// Runs a form's program in the place of a pod; it must be led to the branch, and nowhere else by the fence.
fn take(user: &TestEnv, namespace: &Namespace<'_>, pod: &str, form: &Form) -> Result<String> {
    let file = user.home().join("form.json");
    let branch = json!({
        "id": BRANCH, "type": "pg", "version": "16", "ttl_secs": 300, "copy": {"mode": "all"},
        "connection": form.connection,
    });
    let wanted = json!({
        "target": {"path": {"pod": pod}, "namespace": namespace.name()},
        "feature": {"network": {"incoming": "off", "outgoing": true}}, "db_branches": [branch],
    });
    std::fs::write(&file, wanted.to_string())?;
    let mut command = user.command(["exec", "--on-source-connection", "refuse", "-f"]);
    command.arg(&file).arg("--").args(&form.program);
    let outcome = user.start(command)?.finish(LIMIT)?;
    let told = outcome.stderr.clone();
    let said = outcome.success();
    let said = said.with_context(|| format!("{} in the place of {pod}: {told}", form.name))?;
    let is_written = told.contains("it is taken from the pod as it is written");
    ensure!(is_written == (pod == "hides"), "{told}");
    Ok(said)
}

#[test]
fn drivers_reach_their_branch_whatever_form_a_pod_s_connection_has() -> Result<()> {
    let cluster = Cluster::given()?;
    let mut stage = Stage::open(&cluster)?;
    let psql = text(&fixtures::tool(15, "psql")?)?;
    stage
        .user
        .set("PSQL", format!("{psql} -XAtq -v ON_ERROR_STOP=1"));
    stage
        .user
        .set("NODE_PATH", installed("BOUGH_TEST_NODE_MODULES")?);
    let (user, namespace) = (&stage.user, stage.namespace());
    make(namespace)?;
    let forms = forms()?;
    let branches = ["db-branches", "-n", namespace.name()];
    let mut left = 100;
    for (pod, _) in PODS {
        for form in &forms {
            let said = take(user, namespace, pod, form)?;
            left -= TAKEN;
            let status = answer(user, &[&branches[..], &["status"]].concat())?;
            let identity = status[0]["identity"].as_str().context("an identity")?;
            ensure!(said.contains(identity), "{}: {said}", form.name);
        }
    }
    let psql = ["psql", BRANCH, "--", "-Atc", STOCK];
    let stock = user
        .run([&branches[..], &psql].concat(), LIMIT)?
        .success()?;
    ensure!(stock.trim() == left.to_string(), "{stock} and not {left}");
    ensure!(stage.shop.product("1")?["stock_quantity"] == 100);
    Ok(())
}
