//! A source that speaks TLS: the databases that no branch stands in for keep it, or are refused by name where the fence
//! would break it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use fixtures::{Options, ServerAccount, TempDir};

use super::{psql, run, words};
use crate::story::{PASSWORD, ROLE, Story, assert_says};

/// A server with a certificate, that takes nothing but TLS for the database `secret`.
pub(crate) fn with_tls(home: &TempDir) -> Result<Options> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (certificate, key) = (
        home.path().join("server.crt"),
        home.path().join("server.key"),
    );
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    ServerAccount::detect()?.own(&key)?;
    let text = |path: &std::path::Path| path.to_str().map(str::to_owned).context("text");
    Ok(Options::new(16)
        .setting("ssl", "on")
        .setting("ssl_cert_file", &text(&certificate)?)
        .setting("ssl_key_file", &text(&key)?)
        .hba("hostnossl secret all 127.0.0.1/32 reject"))
}

#[test]
fn an_unbranched_database_keeps_its_tls_or_is_refused_by_name() -> Result<()> {
    let home = TempDir::new()?;
    let story = Story::over(with_tls(&home)?)?;
    story
        .source
        .execute("postgres", &format!("CREATE DATABASE secret OWNER {ROLE}"))?;
    story.deploy_idle()?;
    let file = story.branch_file(|_| {})?;
    let asked = "SELECT 'encrypted: ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let secret = |wish: &str| {
        format!(
            "{}?sslmode={wish}",
            story.source.url(ROLE, PASSWORD, "secret")
        )
    };

    // Whoever prefers TLS comes again without, and the fence speaks it to the server; so for whoever never asks.
    for wish in ["prefer", "disable"] {
        let session = run(&story, &file, &[], &words(&psql(&secret(wish), asked)?))?;
        ensure!(
            session.report["passed"][0]["database"] == "secret",
            "{}",
            session.report
        );
        assert_eq!(session.outcome.success()?, "encrypted: true\n", "{wish}");
    }
    // Whoever insists would bind the login to the wrong connection.
    let session = run(
        &story,
        &file,
        &[],
        &words(&psql(&secret("require"), asked)?),
    )?;
    ensure!(
        session.outcome.status.code() == Some(2),
        "{:?}",
        session.outcome
    );
    assert_says(
        &session.outcome.stderr,
        &["SCRAM-SHA-256-PLUS", "sslmode=disable"],
    )?;

    // The branch is no such server: it takes everybody.
    let branch = format!("{}?sslmode=require", story.source_url());
    let session = run(
        &story,
        &file,
        &[],
        &words(&psql(
            &branch,
            "SELECT 'in ' || current_setting('cluster_name')",
        )?),
    )?;
    ensure!(session.outcome.success()?.starts_with("in bough-"));
    story.end()
}
