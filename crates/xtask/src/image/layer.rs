//! One layer of an image, put together entry by entry: an uncompressed tar, whose times are all zero.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{EntryType, Header};

/// The account that owns what has no owner of its own.
const ROOT: u64 = 0;

/// A layer in the making.
pub(crate) struct Layer {
    archive: tar::Builder<Vec<u8>>,
}

impl Default for Layer {
    fn default() -> Self {
        Self {
            archive: tar::Builder::new(Vec::new()),
        }
    }
}

impl Layer {
    /// A directory of an account, which is its group as well.
    ///
    /// # Errors
    /// When the path is too long for a tar.
    pub(crate) fn directory(&mut self, path: &str, mode: u32, owner: u64) -> Result<()> {
        let header = header(EntryType::Directory, mode, owner);
        self.append(header, &format!("{path}/"), &[])
    }

    /// A file of root's.
    ///
    /// # Errors
    /// As [`Self::directory`].
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.append(header(EntryType::Regular, mode, ROOT), path, content)
    }

    /// A program that is here, as root's.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.file(path, 0o755, &content)
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// As [`Self::directory`].
    pub(crate) fn link(&mut self, path: &str, target: &Path) -> Result<()> {
        self.archive
            .append_link(&mut header(EntryType::Symlink, 0o777, ROOT), path, target)
            .with_context(|| format!("pack the link {path}"))
    }

    /// A directory of here with all in it, as root's. Links stay links; what is neither file nor directory nor link is
    /// left out.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub(crate) fn tree(&mut self, path: &str, from: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        self.directory(path, 0o755, ROOT)?;
        let list = || fs::read_dir(from)?.collect::<Result<Vec<_>, _>>();
        let mut entries = list().with_context(|| format!("list {}", from.display()))?;
        // The order of a directory is the filesystem's.
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (here, name) = (entry.path(), entry.file_name());
            let name = name.to_str().context("names are UTF-8")?;
            let path = format!("{path}/{name}");
            let metadata = entry.metadata();
            let metadata = metadata.with_context(|| format!("look at {}", here.display()))?;
            if metadata.is_dir() {
                self.tree(&path, &here)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&here);
                self.link(
                    &path,
                    &target.with_context(|| format!("read {}", here.display()))?,
                )?;
            } else if metadata.is_file() {
                let content = fs::read(&here);
                let content = content.with_context(|| format!("read {}", here.display()))?;
                self.file(&path, metadata.permissions().mode() & 0o755, &content)?;
            }
        }
        Ok(())
    }

    /// The layer's bytes.
    ///
    /// # Errors
    /// When the archive cannot be finished.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        self.archive.into_inner().context("finish the layer")
    }

    fn append(&mut self, mut header: Header, path: &str, content: &[u8]) -> Result<()> {
        header.set_size(content.len() as u64);
        self.archive
            .append_data(&mut header, path, content)
            .with_context(|| format!("pack {path}"))
    }
}

fn header(kind: EntryType, mode: u32, owner: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_links_and_modes_and_its_owner_becomes_root() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("lib")).expect("created");
        fs::write(dir.path().join("lib/one.so"), "1").expect("written");
        std::os::unix::fs::symlink("one.so", dir.path().join("lib/all.so")).expect("linked");
        let mut layer = Layer::default();
        layer.tree("usr/x", dir.path()).expect("packed");
        layer.directory("home", 0o700, 999).expect("packed");
        let bytes = layer.finish().expect("finished");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("an archive").map(|entry| {
            let entry = entry.expect("an entry");
            let header = entry.header();
            let kind = header.entry_type();
            let link = entry.link_name().expect("readable");
            (
                entry.path().expect("a path").display().to_string(),
                kind,
                header.uid().expect("a number"),
                link.map(|link| link.display().to_string()),
            )
        });
        let root = |path: &str, kind| (path.to_owned(), kind, 0, None);
        assert_eq!(
            entries.collect::<Vec<_>>(),
            [
                root("usr/x/", EntryType::Directory),
                root("usr/x/lib/", EntryType::Directory),
                (
                    "usr/x/lib/all.so".to_owned(),
                    EntryType::Symlink,
                    0,
                    Some("one.so".to_owned())
                ),
                root("usr/x/lib/one.so", EntryType::Regular),
                ("home/".to_owned(), EntryType::Directory, 999, None),
            ]
        );
    }
}
