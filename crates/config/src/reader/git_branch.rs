//! The branch that git has checked out, read from its files: no git is run.

use std::fs;
use std::path::Path;

/// Bytes of `.git` or `HEAD` that are read at most: both are one short line.
const GIT_FILE_BYTES_MAX: u64 = 4096;

/// The branch of the working tree that holds `directory`; none outside of one, or with a detached head.
pub fn git_branch(directory: &Path) -> Option<String> {
    let dot_git = directory
        .ancestors()
        .map(|ancestor| ancestor.join(".git"))
        .find(|candidate| candidate.exists())?;
    let git_directory = if dot_git.is_dir() {
        dot_git
    } else {
        // A linked working tree or a submodule: a file that names the directory.
        let text = read_short(&dot_git)?;
        dot_git
            .parent()?
            .join(text.trim().strip_prefix("gitdir: ")?)
    };
    let head = read_short(&git_directory.join("HEAD"))?;
    head.trim()
        .strip_prefix("ref: refs/heads/")
        .map(str::to_owned)
}

fn read_short(path: &Path) -> Option<String> {
    let is_short = fs::metadata(path).is_ok_and(|found| found.len() <= GIT_FILE_BYTES_MAX);
    is_short.then(|| fs::read_to_string(path).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_read_from_the_head_of_a_tree_or_of_a_linked_one() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str, text: &str| {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::write(path, text).expect("a file");
        };
        write("tree/.git/HEAD", "ref: refs/heads/feature/x\n");
        write("tree/deep/down/file", "");
        write("linked/.git", "gitdir: ../tree/.git/worktrees/linked\n");
        write("tree/.git/worktrees/linked/HEAD", "ref: refs/heads/other\n");
        write(
            "detached/.git/HEAD",
            "0123456789abcdef0123456789abcdef01234567\n",
        );
        let branch = |path: &str| git_branch(&temp.path().join(path));
        assert_eq!(branch("tree/deep/down").as_deref(), Some("feature/x"));
        assert_eq!(branch("linked").as_deref(), Some("other"));
        assert_eq!(branch("detached"), None);
    }
}
