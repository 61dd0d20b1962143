//! What programs of PostgreSQL say when they fail, in one line for people.

/// Whether what a program said comes of a full disk: the C library's words for ENOSPC and EDQUOT, in the language that it
/// was given.
pub(crate) fn is_of_full_disk(said: &str) -> bool {
    said.contains("No space left on device") || said.contains("Disk quota exceeded")
}

/// The last `count` lines of `said` that are not empty, each made bare of what it begins with.
pub(crate) fn last_lines(said: &[u8], count: usize, bare: impl Fn(&str) -> &str) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<_> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(bare)
        .collect();
    lines[lines.len().saturating_sub(count)..].join("; ")
}
