//! A small Debian, as the layer below PostgreSQL: the stock images are made on one as well.
//!
//! Kept in the cache under a name made of what was asked for: a newer package of the same name is taken only when this
//! file changes, or the cache is removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::key;
use crate::places::create_public_dir;
use crate::{command, console};

/// The release that the stock images of all supported versions exist for.
const SUITE: &str = "bookworm";

/// What is asked of mmdebstrap(1), beside suite and target.
const OPTIONS: [&str; 9] = [
    "--mode=root",
    "--variant=essential",
    // The C++ library is the servers' (ICU); time zones and the locale are the stock image's.
    "--include=libstdc++6,locales,tzdata",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--skip=output/dev",
    r#"--customize-hook=chroot "$1" localedef -i en_US -c -f UTF-8 en_US.UTF-8"#,
    // The sources of all other locales; and this machine's own names, which a kubelet gives.
    r#"--customize-hook=rm -rf "$1/usr/share/i18n" "$1/etc/resolv.conf" "$1/etc/hostname""#,
];

/// The layer's archive, made if it is not there yet.
///
/// # Errors
/// When mmdebstrap fails.
pub(super) fn ensure(cache: &Path) -> Result<PathBuf> {
    let asked = OPTIONS.iter().chain([&SUITE]);
    let asked: Vec<_> = asked.map(|option| option.as_bytes().to_vec()).collect();
    let archive = cache.join(format!("debian-{}.tar", key(&asked)));
    if archive.is_file() {
        return Ok(archive);
    }
    console::note("putting a small Debian together, once: this takes a minute");
    create_public_dir(cache)?;
    let unfinished = cache.join("unfinished.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(OPTIONS).arg("--quiet");
    command::run(mmdebstrap.arg(SUITE).arg(&unfinished))?;
    fs::rename(&unfinished, &archive)
        .with_context(|| format!("rename {} to {}", unfinished.display(), archive.display()))?;
    Ok(archive)
}
