//! An engine of this machine whose doors are guarded, as one in a branch host is for whoever runs `bough` in its pod.

use anyhow::{Context, Result, ensure};
use fixtures::{Signal, eventually, sql};

use crate::story::{LIMIT, PASSWORD, ROLE, Story, end_session, stock};

#[test]
fn every_command_leads_past_a_guarded_door_of_this_machine() -> Result<()> {
    let story = Story::begin()?;
    // The engine's own start draws the key; the one that commands start later goes by it.
    let guarded = ["engine", "run", "--doors", "guarded"];
    let mut engine = story.env.start(story.env.command(guarded))?;
    eventually("an engine that answers", LIMIT, || {
        if let Some(end) = engine.ended()? {
            anyhow::bail!("it ended with {end}: {}", engine.stderr()?);
        }
        let status = story.json(&["engine", "status"])?;
        Ok((status["running"] == true).then_some(()))
    })?;

    story.bough(&["db-branches", "create", "own"])?.success()?;
    let endpoint = story.branch("own")?["endpoint"]
        .as_str()
        .context("an endpoint")?
        .to_owned();
    let direct = format!("postgresql://{ROLE}:{PASSWORD}@{endpoint}/{ROLE}");
    let refused = sql::query_value(&direct, "SELECT 1").err();
    let refused = format!("{:#}", refused.context("the door lets in anybody")?);
    ensure!(
        refused.contains("nobody without a credential of Bough's"),
        "{refused}"
    );

    let asked = "SELECT stock_quantity FROM products WHERE product_id = '1'";
    let psql = ["db-branches", "psql", "own", "--", "-Atc", asked];
    assert_eq!(story.bough(&psql)?.success()?.trim(), "100");

    let url = ["db-branches", "url", "own", "--show-password"];
    let mut leading = story.env.start(story.env.command(url))?;
    leading.wait_for(LIMIT, |stdout, _| stdout.contains('\n'))?;
    assert_eq!(stock(leading.stdout()?.trim())?, (100, 0));
    leading.signal(Signal::INT)?;
    drop(leading.finish(LIMIT)?);

    story.deploy_idle()?;
    let file = story.branch_file(|_| ())?;
    let (session, url) = story.start_session(&file)?;
    assert_eq!(stock(&url)?, (100, 0));
    end_session(session)?;

    engine.signal(Signal::TERM)?;
    drop(engine.finish(LIMIT)?);
    story.end()
}
