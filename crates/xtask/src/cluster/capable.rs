//! Whether this machine lets anybody run a node: what no package brings is tried by doing it, and leaves nothing.
//!
//! Leaves what packages bring to `debian`.

use std::process::Command;

use anyhow::{Context, Result};

use super::cgroups;
use crate::command;

/// Checks that the kernel, or what contains this machine, gives namespaces and control groups.
///
/// # Errors
/// When it does not: the first thing that it refuses, by name.
pub(super) fn check() -> Result<()> {
    // Gone with the program in them.
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--propagation", "slave", "true"]);
    command::capture(&mut unshare)
        .context("this machine gives no network and mount namespaces, in which a node would run")?;
    cgroups::try_one().context("this machine gives no control groups, in which pods would run")
}
