//! Every shape in which a file names a connection: the program reads the same variables as on the target, in the same
//! form, and libpq ends at the branch with them.
//!
//! `drivers` has the same with other languages' drivers. What only a cluster knows (Secrets, ConfigMaps, Google's
//! secrets) is read from directories that stand for them, a file a key, as a kubelet mounts them.

mod drivers;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use config::{Destination, Environment, Values};
use model::{PgUrl, Secret};
use serde_json::{Value, json};

use crate::story::{BRANCH, LIMIT, NAMESPACE, PASSWORD, ROLE, Story, TARGET, stock};

/// What each program takes from the stock of 100.
const TAKEN: i64 = 7;

/// Ends each script: tells who answers, and takes from the stock.
const ORDER: &str = "show cluster_name; update products set stock_quantity = stock_quantity - 7 where product_id = '1'";

/// A file's connection, and a program that connects as its service would.
struct Shape {
    name: &'static str,
    connection: Value,
    /// For a shell: `$psql` and `$order` are set.
    script: &'static str,
}

/// The variables of the target, in every form that services have them in.
fn variables(story: &Story) -> Vec<(&'static str, String)> {
    let (url, port) = (story.source_url(), story.source.port());
    let jdbc = format!("jdbc:postgresql://127.0.0.1:{port}/{ROLE}?user={ROLE}&password={PASSWORD}");
    vec![
        ("DATABASE_URL", url.clone()),
        ("READER_URL", format!("{url}?application_name=reader")),
        ("DSN", dsn(port)),
        ("DB_HOST", "127.0.0.1".to_owned()),
        ("DB_PORT", port.to_string()),
        ("DB_USER", ROLE.to_owned()),
        ("DB_PASSWORD", PASSWORD.to_owned()),
        ("DB_NAME", ROLE.to_owned()),
        ("DB_SSLMODE", "disable".to_owned()),
        ("DB_ADDRESS", format!("127.0.0.1:{port}")),
        (
            "SETTINGS",
            format!(
                "pool=5;server=127.0.0.1;port={port};login={ROLE}/{PASSWORD};db={ROLE};ssl=off"
            ),
        ),
        ("JDBC_URL", jdbc),
    ]
}

fn dsn(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user={ROLE} password='{PASSWORD}' dbname={ROLE}")
}

const OF_PARTS: &str = r#"PGPASSWORD=$DB_PASSWORD $psql -h "$DB_HOST" -p "$DB_PORT" -U "$DB_USER" -d "$DB_NAME" -c "$order""#;

fn shape(name: &'static str, connection: Value, script: &'static str) -> Shape {
    Shape {
        name,
        connection,
        script,
    }
}

fn whole_urls(story: &Story) -> Vec<Shape> {
    vec![
        shape(
            "a url",
            json!({"url": {"type": "env", "variable": "DATABASE_URL"}}),
            r#"$psql "$DATABASE_URL" -c "$order""#,
        ),
        shape(
            "a url by its name alone",
            json!({"url": "DATABASE_URL"}),
            r#"$psql "$DATABASE_URL" -c "$order""#,
        ),
        shape(
            "a url of envFrom",
            json!({"url": {"type": "env_from", "variable": "DATABASE_URL"}}),
            r#"$psql "$DATABASE_URL" -c "$order""#,
        ),
        shape(
            "a url of a container",
            json!({"url": {"type": "env", "variable": "DATABASE_URL", "container": "app"}}),
            r#"$psql "$DATABASE_URL" -c "$order""#,
        ),
        shape(
            "a connection string of keywords",
            json!({"url": "DSN"}),
            r#"$psql "$DSN" -c "$order""#,
        ),
        shape(
            "several urls, each to the branch, each its own otherwise",
            json!({"url": ["DATABASE_URL", "READER_URL"]}),
            r#"test "$($psql "$DATABASE_URL" -c 'show cluster_name')" = "$($psql "$READER_URL" -c 'show cluster_name')" &&
               test "$($psql "$READER_URL" -c 'show application_name')" = reader && $psql "$READER_URL" -c "$order""#,
        ),
        shape(
            "a literal",
            json!({"url": {"type": "env", "variable": "HIDDEN_URL", "value": story.source_url()}}),
            r#"$psql "$HIDDEN_URL" -c "$order""#,
        ),
    ]
}

fn params() -> Vec<Shape> {
    vec![
        shape(
            "params, a variable each",
            json!({"params": {
                "host": "DB_HOST", "port": "DB_PORT", "user": "DB_USER", "password": "DB_PASSWORD",
                "database": "DB_NAME",
            }}),
            OF_PARTS,
        ),
        shape(
            "params with literals in between",
            json!({"type": "env", "params": {
                "host": "DB_HOST", "port": "DB_PORT", "user": "DB_USER", "database": "DB_NAME",
                "password": {"env_var_name": "DB_SECRET", "value": PASSWORD},
            }}),
            r#"PGPASSWORD=$DB_SECRET $psql -h "$DB_HOST" -p "$DB_PORT" -U "$DB_USER" -d "$DB_NAME" -c "$order""#,
        ),
        shape(
            "params by the other word, one with TLS switched off",
            json!({"params": {
                "host": {"variable": "DB_HOST"}, "port": {"variable": "DB_PORT"}, "user": "DB_USER",
                "password": "DB_PASSWORD", "database": "DB_NAME", "sslmode": "DB_SSLMODE",
            }}),
            r#"test "$DB_SSLMODE" = disable || exit 1
               PGSSLMODE=$DB_SSLMODE PGPASSWORD=$DB_PASSWORD $psql -h "$DB_HOST" -p "$DB_PORT" -U "$DB_USER" -d "$DB_NAME" -c "$order""#,
        ),
        shape(
            "host and port in one variable",
            json!({"params": {
                "host": "DB_ADDRESS", "user": "DB_USER", "password": "DB_PASSWORD", "database": "DB_NAME",
            }}),
            r#"PGPASSWORD=$DB_PASSWORD $psql -h "${DB_ADDRESS%:*}" -p "${DB_ADDRESS##*:}" -U "$DB_USER" -d "$DB_NAME" -c "$order""#,
        ),
        shape(
            "several variables for one param",
            json!({"params": {
                "host": ["DB_HOST", {"env_var_name": "DB_ADDRESS", "value_pattern": "^([^:]+):"}],
                "port": ["DB_PORT", {"env_var_name": "DB_ADDRESS", "value_pattern": ":([0-9]+)$"}],
                "user": "DB_USER", "password": "DB_PASSWORD", "database": "DB_NAME",
            }}),
            r#"test "$DB_ADDRESS" = "$DB_HOST:$DB_PORT" && PGPASSWORD=$DB_PASSWORD $psql -h "${DB_ADDRESS%:*}" -p "${DB_ADDRESS##*:}" -U "$DB_USER" -d "$DB_NAME" -c "$order""#,
        ),
    ]
}

fn composites() -> Vec<Shape> {
    let part = |pattern: &str| json!({"env_var_name": "SETTINGS", "value_pattern": pattern});
    let jdbc = |pattern: &str| json!({"env_var_name": "JDBC_URL", "value_pattern": pattern});
    vec![
        shape(
            "parts of one composite variable",
            json!({"params": {
                "host": part("server=([^;]+)"), "port": part("port=([0-9]+)"), "user": part("login=([^/]+)/"),
                "password": part("login=[^/]+/([^;]+)"), "database": part("db=([^;]+)"),
            }}),
            r#"IFS=';'; set -- $SETTINGS; unset IFS
               test "$1" = pool=5 && test "$6" = ssl=off || exit 1
               login=${4#login=}
               PGPASSWORD=${login#*/} $psql -h "${2#server=}" -p "${3#port=}" -U "${login%%/*}" -d "${5#db=}" -c "$order""#,
        ),
        shape(
            "parts of a url of another driver",
            json!({"params": {
                "host": jdbc("//([^:/]+)"), "port": jdbc("//[^:/]+:([0-9]+)"), "user": jdbc("user=([^&]+)"),
                "password": jdbc("password=([^&]+)"), "database": jdbc("//[^/]+/([^?]+)"),
            }}),
            r#"$psql "${JDBC_URL#jdbc:}" -c "$order""#,
        ),
    ]
}

#[test]
fn a_program_reaches_its_branch_whatever_form_its_variables_have() -> Result<()> {
    let story = deploy()?;
    let psql = psql()?;
    let mut left = 100;
    let shapes = [whole_urls(&story), params(), composites()];
    for shape in shapes.into_iter().flatten() {
        let script = format!("psql='{psql}'; order=\"{ORDER}\"\n{}", shape.script);
        left -= TAKEN;
        take(
            &story,
            shape.name,
            &shape.connection,
            &["sh", "-c", &script],
            left,
        )?;
    }
    story.end()
}

/// A shop whose service has its connection in every form.
fn deploy() -> Result<Story> {
    let story = Story::begin()?;
    let mut command = story.env.command([
        "local", "run", TARGET, "-n", NAMESPACE, "--", "sleep", "100000",
    ]);
    command.envs(variables(&story));
    story.env.start(command)?.finish(LIMIT)?.success()?;
    Ok(story)
}

/// Runs a program that says who answers it and takes from the stock: it is the branch, `left` is left there, and all of
/// it at the source.
fn take(story: &Story, name: &str, connection: &Value, program: &[&str], left: i64) -> Result<()> {
    let file =
        story.branch_file(|file| file["db_branches"][0]["connection"] = connection.clone())?;
    // Whoever aims at the source in spite of all is not led to the branch by the fence.
    let mut command = story
        .env
        .command(["-q", "exec", "--on-source-connection", "refuse", "-f"]);
    command.arg(&file).arg("--").args(program);
    let outcome = story.env.start(command)?.finish(LIMIT)?;
    let said = outcome.success().with_context(|| format!("with {name}"))?;
    let branch = story.branch(BRANCH)?;
    let identity = branch["identity"].as_str().context("it has one")?;
    assert!(said.starts_with(identity), "{name}: {said}");
    let url = story
        .bough(&[
            "db-branches",
            "-n",
            NAMESPACE,
            "url",
            BRANCH,
            "--show-password",
        ])?
        .success()?;
    assert_eq!(stock(url.trim())?, (left, 0), "{name}");
    assert_eq!(stock(&story.source_url())?, (100, 0), "{name}");
    Ok(())
}

/// psql as the scripts call it, without a file of the user's, values alone; PostgreSQL 15's, which only Debian's package
/// brings.
fn psql() -> Result<String> {
    let path = fixtures::tool(15, "psql")?;
    let path = path.to_str().context("a path is text")?;
    Ok(format!("{path} -XAtq -v ON_ERROR_STOP=1"))
}

/// What stands for a cluster: `secrets/NAME/KEY`, `config-maps/NAME/KEY`, `gcp/PROJECT/SECRET`.
struct StandIn {
    root: PathBuf,
}

impl StandIn {
    fn write(root: PathBuf, story: &Story) -> Result<Self> {
        let port = story.source.port().to_string();
        for (path, value) in [
            ("secrets/inventory-db/username", ROLE),
            ("secrets/inventory-db/password", PASSWORD),
            ("secrets/inventory-db/url", &story.source_url()),
            ("config-maps/inventory/DB_HOST", "127.0.0.1"),
            ("config-maps/inventory/DB_PORT", &port),
            ("config-maps/inventory/DB_NAME", ROLE),
            ("gcp/projects/shop/secrets/password", PASSWORD),
        ] {
            let path = root.join(path);
            let folder = path.parent().context("a key is in a directory")?;
            fs::create_dir_all(folder)?;
            fs::write(path, value)?;
        }
        Ok(Self { root })
    }

    /// The variables of a ConfigMap that a container takes whole.
    fn config_map(&self, name: &str) -> Result<Environment> {
        let mut variables = Environment::new();
        for entry in fs::read_dir(self.root.join("config-maps").join(name))? {
            let path = entry?.path();
            let key = path.file_name().context("a key has a name")?;
            let value = fs::read_to_string(&path)?;
            variables.insert(key.to_owned(), value.into());
        }
        Ok(variables)
    }

    fn secrets(&self, name: &str) -> Result<BTreeMap<(String, String), Secret>> {
        let mut secrets = BTreeMap::new();
        for entry in fs::read_dir(self.root.join("secrets").join(name))? {
            let path = entry?.path();
            let key = path.file_name().context("a key has a name")?;
            let key = key.to_str().context("a key is text")?.to_owned();
            let value = Secret::new(fs::read_to_string(&path)?);
            secrets.insert((name.to_owned(), key), value);
        }
        Ok(secrets)
    }

    fn gcp(&self, reference: &str) -> Result<(String, Secret)> {
        let value = fs::read_to_string(self.root.join("gcp").join(reference))?;
        Ok((reference.to_owned(), Secret::new(value)))
    }
}

/// Connections of a cluster, and what a program makes of the variables that it gets.
fn cluster_shapes() -> Vec<Shape> {
    let secret = |key: &str, variable: &str| json!({"secret": "inventory-db", "key": key, "env_var_name": variable});
    vec![
        Shape {
            name: "a url in a Secret",
            connection: json!({"url": {
                "type": "secret", "name": "inventory-db", "key": "url", "env_var_name": "DATABASE_URL",
            }}),
            script: r#"$psql "$DATABASE_URL" -c "$order""#,
        },
        Shape {
            name: "params of a ConfigMap and a Secret",
            connection: json!({"type": "env_from", "params": {
                "host": "DB_HOST", "port": "DB_PORT", "database": "DB_NAME",
                "user": secret("username", "DB_USER"), "password": secret("password", "DB_PASSWORD"),
            }}),
            script: OF_PARTS,
        },
        Shape {
            name: "a password of Google's",
            connection: json!({"type": "env_from", "params": {
                "host": "DB_HOST", "port": "DB_PORT", "database": "DB_NAME",
                "user": secret("username", "DB_USER"),
                "password": {
                    "gcp_secret_manager": "projects/shop/secrets/password", "env_var_name": "DB_PASSWORD",
                },
            }}),
            script: OF_PARTS,
        },
    ]
}

#[test]
fn what_a_cluster_keeps_leads_to_the_branch_as_well() -> Result<()> {
    let mut story = Story::begin()?;
    let cluster = StandIn::write(story.env.home().join("cluster"), &story)?;
    let container = Environment::new();
    let env_from = cluster.config_map("inventory")?;
    let values = Values {
        environment: Some(&container),
        env_from: Some(&env_from),
        secrets: cluster.secrets("inventory-db")?,
        gcp_secrets: [cluster.gcp("projects/shop/secrets/password")?].into(),
    };
    let psql = psql()?;
    let mut left = 100;
    for shape in cluster_shapes() {
        let connection = read_connection(&story, &shape.connection)?;
        let source = connection.locate_in(&values)?;
        // The same password and address as the shop's, found in other places.
        story.env.set("BOUGH_SOURCE_URL", source.url.reveal());
        let id = "of-a-cluster";
        let branch = PgUrl::parse(&story.create(id, &["--copy", "all"])?)?;
        let destination = Destination {
            address: &branch.address(),
            database: None,
            query_params: &BTreeMap::new(),
        };
        let given = connection.rewrite_in(&values, &destination)?;
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                &format!("psql='{psql}'; order=\"{ORDER}\"\n{}", shape.script),
            ])
            .envs(env_from.iter())
            .envs(
                given
                    .iter()
                    .map(|(name, value)| (name, OsString::from(value.reveal()))),
            );
        let output = command.output().context("run a shell")?;
        ensure!(output.status.success(), "{}: {output:?}", shape.name);
        left -= TAKEN;
        let said = String::from_utf8(output.stdout)?;
        let identity = story.branch(id)?["identity"].clone();
        let identity = identity.as_str().context("it has one")?;
        assert!(said.starts_with(identity), "{}: {said}", shape.name);
        assert_eq!(stock(&branch.reveal())?, (left, 0), "{}", shape.name);
        assert_eq!(stock(&story.source_url())?, (100, 0), "{}", shape.name);
    }
    story.end()
}

/// The connection as `exec` would read it from a file.
fn read_connection(story: &Story, connection: &Value) -> Result<config::Connection> {
    let file =
        story.branch_file(|file| file["db_branches"][0]["connection"] = connection.clone())?;
    let surroundings = config::Surroundings::new(story.env.home(), "key".to_owned());
    let mut config = config::read(Path::new(&file), &surroundings)?;
    Ok(config.branches.remove(0).connection)
}
