//! A team's sessions at once, each with a branch of its own.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fixtures::{Program, Signal, TestEnv, eventually, http};

use crate::kubernetes::{Cluster, LIMIT};
use crate::sessions::{ids, json};
use crate::shop::Shop;
use crate::stage::{Stage, count_branches};
use crate::walk_through::{product, session_file, start_session};

/// Sessions at once: a team's.
const TEAM: usize = 20;

/// A session with a branch of its own.
fn member(user: &TestEnv, shop: &Shop<'_>, number: usize) -> Result<(Program, u16)> {
    let namespace = shop.namespace().name();
    let text = std::fs::read_to_string(user.home().join("inventory-db-branch.json"))?;
    let own = text.replace("my-debug-session", &format!("of-{number}"));
    // Copies of what clients send are one session's or another's business.
    let own = own.replace(r#""incoming": "mirror""#, r#""incoming": "off""#);
    ensure!(
        own.contains(namespace) && own.matches("of-").count() == 1,
        "{own}"
    );
    let file = user.home().join(format!("of-{number}.json"));
    std::fs::write(&file, own)?;
    let file: &Path = &file;
    let (session, port) = start_session(user, file.to_str().context("UTF-8")?)?;
    let order = format!(r#"{{"items":[{{"productId":"1","quantity":{number}}}]}}"#);
    let reserved = http::post(port, "/api/inventory/reserve", &order)?;
    ensure!(reserved.status == 200, "{}", reserved.body);
    Ok((session, port))
}

#[test]
fn twenty_sessions_at_once_have_twenty_branches() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let Stage { user, shop, .. } = &stage;
    let namespace = shop.namespace();
    session_file(user, "inventory-db-branch.json", namespace.name())?;
    let members = std::thread::scope(|scope| {
        let begun: Vec<_> = (1..=TEAM)
            .map(|number| scope.spawn(move || member(user, shop, number)))
            .collect();
        let ended = begun.into_iter().map(|one| one.join().expect("no panic"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    for (number, (_, port)) in (1..).zip(&members) {
        let expected = ((100 - number).into(), number.into());
        ensure!(
            product(*port)? == expected,
            "{number}: {:?}",
            product(*port)?
        );
    }
    ensure!(count_branches(namespace)? == TEAM);
    // Agents are never removed, so that each one too many would stay for the life of the pod.
    let agents = "jsonpath={.items[*].spec.ephemeralContainers[*].name}";
    let agents = namespace.ask(&["get", "pods", "-l", "app=inventory", "-o", agents])?;
    ensure!(agents == "bough-agent-0", "{agents}");
    let listed = json(user, &["session", "-n", namespace.name(), "ls"])?;
    ensure!(ids(&listed).len() == TEAM, "{listed}");
    ensure!(shop.product("1")?["stock_quantity"] == 100);
    for (mut session, _) in members {
        session.signal(Signal::TERM)?;
        let said = session.finish(LIMIT)?.stderr;
        ensure!(said.contains("nothing got past the fence"), "{said}");
    }
    eventually("the end of all sessions", LIMIT, || {
        let listed = json(user, &["session", "-n", namespace.name(), "ls"])?;
        Ok(ids(&listed).is_empty().then_some(()))
    })
}
