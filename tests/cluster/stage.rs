//! What most stories begin with: our operator, the shop in a namespace of its own, somebody at this machine.
//!
//! Owns their order and their end. Leaves each of them to `operator`, `shop` and `kubernetes`.

use anyhow::Result;
use fixtures::TestEnv;

use crate::kubernetes::{Cluster, Namespace};
use crate::operator::{IMAGE, Operator};
use crate::shop::Shop;

/// All of it; gone with this.
pub(crate) struct Stage<'a> {
    /// Somebody with the program, the image of its agents and all rights.
    pub(crate) user: TestEnv,
    pub(crate) shop: Shop<'a>,
    // It goes last: nobody else ends what holds a branch's resource.
    _operator: Operator<'a>,
}

impl<'a> Stage<'a> {
    /// With a shop that answers.
    pub(crate) fn open(cluster: &'a Cluster) -> Result<Self> {
        // Before the turn of this story, in which all others wait.
        let shop = Shop::open(cluster)?;
        shop.wait_until_it_answers()?;
        Self::with(cluster, shop, &[])
    }

    /// With these flags of `operator manifests`; nobody waits for the shop.
    pub(crate) fn set(cluster: &'a Cluster, flags: &[&str]) -> Result<Self> {
        Self::with(cluster, Shop::open(cluster)?, flags)
    }

    fn with(cluster: &'a Cluster, shop: Shop<'a>, flags: &[&str]) -> Result<Self> {
        let mut user = cluster.user()?;
        user.set("BOUGH_AGENT_IMAGE", IMAGE);
        let operator = Operator::install(cluster, &user, flags)?;
        Ok(Self {
            user,
            shop,
            _operator: operator,
        })
    }

    /// The shop's.
    pub(crate) fn namespace(&self) -> &Namespace<'a> {
        self.shop.namespace()
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        drop(Branches(self.namespace()));
    }
}

/// The branches of a namespace, ended before their operator is.
pub(crate) struct Branches<'a>(pub(crate) &'a Namespace<'a>);

impl Drop for Branches<'_> {
    fn drop(&mut self) {
        let _deleted = self
            .0
            .ask(&["delete", "branches.bough.dev", "--all", "--timeout=60s"]);
    }
}

/// How many branches a namespace has.
pub(crate) fn count_branches(namespace: &Namespace<'_>) -> Result<usize> {
    let listed = namespace.ask(&["get", "branches.bough.dev", "-o", "name"])?;
    Ok(listed.lines().count())
}
