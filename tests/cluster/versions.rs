//! A branch of which nobody says the version: its source is asked, as the target reaches it.

use anyhow::{Result, ensure};
use fixtures::Signal;

use crate::kubernetes::{Cluster, LIMIT};
use crate::stage::Stage;
use crate::walk_through::{product, session_file, start_session};

#[test]
fn a_file_without_a_version_gets_its_sources_own() -> Result<()> {
    let cluster = Cluster::given()?;
    let stage = Stage::open(&cluster)?;
    let (user, namespace) = (&stage.user, stage.namespace());
    let file = session_file(user, "inventory-db-branch.json", namespace.name())?;
    let text = std::fs::read_to_string(&file)?;
    let without = text.replace(r#""version": "16","#, "");
    ensure!(without.len() < text.len(), "{text}");
    std::fs::write(&file, without)?;
    let (mut session, port) = start_session(user, &file)?;
    ensure!(product(port)? == (100.into(), 0.into()));
    let version = "jsonpath={.items[*].spec.version}";
    let version = namespace.ask(&["get", "branches.bough.dev", "-o", version])?;
    ensure!(version == "16", "{version}");
    session.signal(Signal::TERM)?;
    session.finish(LIMIT).map(drop)
}
