//! The images of the node: its own two, the databases', and whatever else is loaded into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::namespaces::Namespaces;
use super::place::Place;
use super::programs::Programs;
use crate::command;
use crate::image::archive::{Blob, Image};
use crate::image::layer::Layer;
use crate::image::{self, Archive};
use crate::places::workspace;

/// What every pod's namespaces are held by.
pub(super) const PAUSE: &str = "localhost/pause:1";

/// The name server, as `tests/cluster/coredns.yaml` names it.
const COREDNS: &str = "localhost/coredns:1";

/// Makes the images without which no pod runs, in the node's directory.
///
/// # Errors
/// When one cannot be made.
pub(super) fn own(place: &Place, programs: &Programs) -> Result<Vec<Archive>> {
    let pause = place.path("pause");
    build_pause(&pause)?;
    let images = [
        (PAUSE, pause.as_path(), "pause"),
        (COREDNS, programs.coredns.as_path(), "coredns"),
    ];
    let made = images.map(|(name, program, file)| {
        let mut layer = Layer::default();
        layer.program(file, program)?;
        let image = Image {
            name,
            also: &[],
            layers: vec![Blob::of_layer(layer)?],
            config: json!({ "Entrypoint": [format!("/{file}")] }),
        };
        let path = place.path(&format!("images/{file}.tar"));
        image::write(&image, &path)?;
        let name = name.to_owned();
        Ok(Archive { name, path })
    });
    made.into_iter().collect()
}

/// Gives an archive's images to containerd, which runs.
///
/// # Errors
/// When it is not taken.
pub(super) fn import(place: &Place, namespaces: &Namespaces, archive: &Path) -> Result<()> {
    // Inside, paths begin at the root.
    let archive: PathBuf =
        fs::canonicalize(archive).with_context(|| format!("find {}", archive.display()))?;
    let mut ctr = namespaces.inside(Path::new("ctr"));
    ctr.arg("--address").arg(place.containerd_socket());
    ctr.args(["--namespace", "k8s.io", "images", "import"]);
    let imported = command::capture(ctr.arg(&archive)).map(drop);
    imported.with_context(|| format!("import {}", archive.display()))
}

fn build_pause(program: &Path) -> Result<()> {
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O2", "-o"]).arg(program);
    command::capture(cc.arg(workspace().join("tests/cluster/pause.c"))).map(drop)
}
