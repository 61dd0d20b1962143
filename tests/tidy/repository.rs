//! Reads what the rules look at: packages, their dependencies, and the text of sources and documents.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::dependencies::Outside;
use crate::layers::{Edge, Kind};

/// Texts by path relative to the root, with `/` between parts.
pub(crate) type Texts = BTreeMap<String, String>;

/// Directories that hold no text of ours.
const FOREIGN: [&str; 2] = [".git", "node_modules"];

/// A file by which programs mark a directory of what can be made again, as cargo does with its target directories.
const CACHE_MARK: &str = "CACHEDIR.TAG";

/// The repository as it is on disk, committed or not.
#[derive(Debug)]
pub(crate) struct Repository {
    /// Its absolute path.
    pub(crate) root: PathBuf,
    /// Every dependency of a package of ours on another.
    pub(crate) edges: Vec<Edge>,
    /// Root files of everything that cargo compiles, relative.
    pub(crate) roots: Vec<String>,
    /// Every `.rs` file.
    pub(crate) sources: Texts,
    /// Every `.md` file.
    pub(crate) documents: Texts,
    packages: Vec<Package>,
}

impl Repository {
    /// Reads it.
    pub(crate) fn load() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("this package is in a directory of the root")?;
        let mut command = MetadataCommand::new();
        let metadata = command
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("run cargo metadata")?;
        let packages = metadata.packages;
        let targets = packages.iter().flat_map(|package| &package.targets);
        let mut repository = Self {
            root: root.to_owned(),
            edges: edges(&packages),
            roots: targets
                .filter_map(|target| relative(root, target.src_path.as_std_path()))
                .collect(),
            sources: Texts::new(),
            documents: Texts::new(),
            packages,
        };
        repository.read_dir(root)?;
        Ok(repository)
    }

    /// The names of our packages.
    pub(crate) fn names(&self) -> Vec<String> {
        self.packages
            .iter()
            .map(|package| package.name.to_string())
            .collect()
    }

    /// The directories of our packages, relative.
    pub(crate) fn directories(&self) -> Vec<String> {
        let manifests = self
            .packages
            .iter()
            .filter_map(|package| package.manifest_path.parent());
        manifests
            .filter_map(|dir| relative(&self.root, dir.as_std_path()))
            .collect()
    }

    /// What our packages declare of others', for whatever purpose.
    pub(crate) fn outside(&self) -> Vec<Outside> {
        let declared = self.packages.iter().flat_map(|package| {
            let directory = package.manifest_path.parent();
            let directory = directory.and_then(|dir| relative(&self.root, dir.as_std_path()));
            let others = package.dependencies.iter().filter(|to| to.path.is_none());
            others.map(move |to| Outside {
                directory: directory.clone().unwrap_or_default(),
                name: to.name.clone(),
            })
        });
        declared.collect()
    }

    /// The text of a document, if it exists.
    pub(crate) fn document(&self, path: &str) -> Option<&str> {
        self.documents.get(path).map(String::as_str)
    }

    fn read_dir(&mut self, dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                let foreign = FOREIGN.iter().any(|name| entry.file_name() == *name);
                if !foreign && !path.join(CACHE_MARK).exists() {
                    self.read_dir(&path)?;
                }
                continue;
            }
            let texts = match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => &mut self.sources,
                Some("md") => &mut self.documents,
                Some(_) | None => continue,
            };
            let name =
                relative(&self.root, &path).with_context(|| format!("name {}", path.display()))?;
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            texts.insert(name, text);
        }
        Ok(())
    }
}

fn relative(root: &Path, path: &Path) -> Option<String> {
    Some(path.strip_prefix(root).ok()?.to_str()?.to_owned())
}

fn edges(packages: &[Package]) -> Vec<Edge> {
    let ours = |name: &str| packages.iter().any(|package| package.name == name);
    let dependencies = packages
        .iter()
        .flat_map(|package| package.dependencies.iter().map(move |to| (package, to)));
    let inner = dependencies.filter(|(_, to)| to.path.is_some() && ours(&to.name));
    let edge = |(from, to): (&Package, &cargo_metadata::Dependency)| Edge {
        from: from.name.to_string(),
        to: to.name.clone(),
        kind: if to.kind == DependencyKind::Development {
            Kind::Tests
        } else {
            Kind::Product
        },
    };
    inner.map(edge).collect()
}
