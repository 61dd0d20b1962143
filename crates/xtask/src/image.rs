//! `cargo xtask image`: container images, made without a container engine.
//!
//! - Ours, from a program that was just built: `bough`, the whole product in one static file, and the demo's inventory
//!   service. Both run as an account without rights, on a root that nothing writes to. `Dockerfile` makes the same one.
//! - Those that the test cluster needs and that no registry gives here: `postgres`, over `base`.
//!
//! `layer` puts files together, `archive` makes them one file that container runtimes import.

pub(crate) mod archive;
mod base;
pub(crate) mod layer;
mod postgres;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::places::{Places, create_public_dir};
use crate::postgres::versions::PINS;
use crate::test::{self, Profile};
use crate::{console, postgres as servers};
use archive::{Blob, Image};
use layer::Layer;

/// The account of our images: nobody's on any machine, by custom of images without a distribution.
const ACCOUNT: u64 = 65_532;

/// Digits of a key.
const KEY_DIGITS: usize = 16;

/// Raised whenever the code here makes another image of the same inputs.
const LAYOUT: &[u8] = b"1";

/// Arguments of `cargo xtask image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// What the image is of
    #[arg(value_enum, default_value_t)]
    program: Program,

    /// Quickly built, for tests
    #[arg(long)]
    debug: bool,

    /// The archive; beside the program if this is not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A program of ours that has an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// The product
    #[default]
    Bough,
    /// The inventory service of the demo
    Inventory,
}

impl Program {
    fn package(self) -> &'static str {
        match self {
            Self::Bough => "bough",
            Self::Inventory => "metalmart",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Bough => "bough",
            Self::Inventory => "inventory",
        }
    }

    /// What the image is asked for by.
    pub(crate) fn image(self) -> &'static str {
        match self {
            Self::Bough => "localhost/bough:dev",
            Self::Inventory => "localhost/metalmart/inventory:dev",
        }
    }

    /// By what else: an upgrade names another image.
    fn also(self) -> &'static [&'static str] {
        match self {
            Self::Bough => &["localhost/bough:next"],
            Self::Inventory => &[],
        }
    }
}

/// An archive of an image.
#[derive(Debug)]
pub(crate) struct Archive {
    /// What the image is asked for by.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
}

/// Builds a program, and an image of it.
///
/// # Errors
/// When one of them cannot be made.
pub(crate) fn run(args: &ImageArgs) -> Result<()> {
    let profile = if args.debug {
        Profile::Debug
    } else {
        Profile::Release
    };
    let archive = make(args.program, profile, args.output.as_deref())?;
    console::note(&format!("{} is in", archive.name));
    console::result(&archive.path.display().to_string())?;
    Ok(())
}

/// Builds a program and packs it.
///
/// # Errors
/// When it does not build, or the archive cannot be written.
pub(crate) fn make(program: Program, profile: Profile, output: Option<&Path>) -> Result<Archive> {
    let built = test::build(program.package(), program.file(), profile)?;
    let path = output.map_or_else(|| built.with_extension("image.tar"), Path::to_owned);
    let mut image = of_program(program.image(), program.file(), &built)?;
    image.also = program.also();
    write(&image, &path)?;
    Ok(Archive {
        name: program.image().to_owned(),
        path,
    })
}

/// An image of one static program and nothing else but the account that it runs as.
///
/// # Errors
/// When the program cannot be read.
pub(crate) fn of_program<'a>(name: &'a str, file: &str, program: &Path) -> Result<Image<'a>> {
    let mut layer = Layer::default();
    let user = format!("nonroot:x:{ACCOUNT}:{ACCOUNT}::/:/sbin/nologin\n");
    layer.file("etc/passwd", 0o644, user.as_bytes())?;
    layer.file(
        "etc/group",
        0o644,
        format!("nonroot:x:{ACCOUNT}:\n").as_bytes(),
    )?;
    layer.directory("tmp", 0o1777, 0)?;
    layer.program(file, program)?;
    Ok(Image {
        name,
        also: &[],
        layers: vec![Blob::of_layer(layer)?],
        config: json!({
            "User": format!("{ACCOUNT}:{ACCOUNT}"),
            "Env": ["PATH=/"],
            "Entrypoint": [format!("/{file}")],
        }),
    })
}

/// Archives of `postgres:<major>` for every pinned version, made where they are missing; `root` is in the cache.
///
/// # Errors
/// When a server cannot be got, or an image not be made.
pub(crate) fn ensure_postgres(places: &Places, root: &Path) -> Result<Vec<Archive>> {
    let installed = servers::ensure(places, &servers::all_majors())?;
    let base = base::ensure(root)?;
    let made = PINS.iter().map(|pin| {
        let name = format!("docker.io/library/postgres:{}", pin.major);
        let mut inputs = vec![LAYOUT.to_vec(), postgres::inputs()?];
        // The clients of older versions are a newer one's.
        inputs.extend(PINS.iter().map(|pin| pin.key().into_bytes()));
        inputs.push(base.display().to_string().into_bytes());
        let path = root.join(format!("postgres-{}-{}.tar", pin.major, key(&inputs)));
        if !path.is_file() {
            console::note(&format!("making the image {name}"));
            write(
                &postgres::image(&name, pin.major, &installed, &base)?,
                &path,
            )?;
        }
        Ok(Archive { name, path })
    });
    made.collect()
}

/// Packs an image into a file, which has its name only when it is whole.
///
/// # Errors
/// When it cannot be packed or written.
pub(crate) fn write(image: &Image<'_>, path: &Path) -> Result<()> {
    if let Some(directory) = path.parent().filter(|parent| parent.is_relative()) {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    } else if let Some(directory) = path.parent() {
        create_public_dir(directory)?;
    }
    let unfinished = path.with_extension("unfinished");
    let file =
        File::create(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
    archive::pack(image, BufWriter::new(file)).with_context(|| format!("pack {}", image.name))?;
    fs::rename(&unfinished, path)
        .with_context(|| format!("rename {} to {}", unfinished.display(), path.display()))
}

/// A name for everything that decides what is made: 16 hexadecimal digits.
pub(crate) fn key(inputs: &[Vec<u8>]) -> String {
    let mut digest = Sha256::new();
    for input in inputs {
        // With its length, so that no border between two inputs is ambiguous.
        digest.update((input.len() as u64).to_le_bytes());
        digest.update(input);
    }
    let mut text: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    text.truncate(KEY_DIGITS);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::workspace;

    #[test]
    fn a_key_tells_inputs_apart() {
        let of = |inputs: &[&str]| {
            let inputs = inputs.iter().map(|input| input.as_bytes().to_vec());
            key(&inputs.collect::<Vec<_>>())
        };
        assert_eq!(of(&["a", "b"]).len(), KEY_DIGITS);
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab", ""]));
    }

    #[test]
    fn our_images_run_as_an_account_without_rights_as_the_dockerfile_says_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("bough");
        fs::write(&program, "program").expect("written");
        let image = of_program("localhost/bough:dev", "bough", &program).expect("made");
        let (user, entry) = (&image.config["User"], &image.config["Entrypoint"]);
        let dockerfile = fs::read_to_string(workspace().join("Dockerfile")).expect("in the tree");
        let user = format!("USER {}", user.as_str().expect("text"));
        assert!(dockerfile.lines().any(|line| line == user), "{user}");
        let entry = format!("ENTRYPOINT {entry}");
        assert!(dockerfile.lines().any(|line| line == entry), "{entry}");
    }

    #[test]
    fn the_dockerfile_has_the_toolchain_of_the_tree() {
        let read = |name: &str| fs::read_to_string(workspace().join(name)).expect("in the tree");
        let toolchain = read("rust-toolchain.toml");
        let channel = toolchain
            .lines()
            .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
            .expect("a channel");
        let dockerfile = read("Dockerfile");
        for line in [
            format!("FROM docker.io/library/rust:{channel}-bookworm AS build"),
            format!("ENV RUSTUP_TOOLCHAIN={channel}"),
        ] {
            assert!(dockerfile.lines().any(|it| it == line), "{line}");
        }
    }

    #[test]
    fn an_archive_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let archive = dir.path().join("images/one.tar");
        let image = |layers| Image {
            name: "localhost/one:1",
            also: &[],
            layers,
            config: json!({}),
        };
        let lost = dir.path().join("layer.tar");
        fs::write(&lost, "layer").expect("written");
        let layers = vec![Blob::of_file(&lost).expect("read")];
        fs::remove_file(&lost).expect("removed");
        write(&image(layers), &archive).expect_err("its layer is gone");
        assert!(!archive.exists());
        write(&image(Vec::new()), &archive).expect("an image of nothing");
        assert!(archive.exists());
    }
}
