//! `feature.fs`: whose files the process sees.
//!
//! Owns the modes and lists and which of them this version has: `local`. Leaves serving files to the agent.

use std::collections::BTreeMap;

use regex::Regex;

use crate::decode::{Decode, OneOrMany, Report, Word, defaults, record, report_kind, words};
use crate::diagnostic::Weight;
use crate::tree::{Node, Value};

/// Bytes of the read buffer from which on it is worth a warning.
const BUFFER_BYTES_WARN: u64 = 1 << 20;

/// Bytes that the read buffer may have: the format's own limit.
const BUFFER_BYTES_MAX: u64 = 15 << 20;

/// Bytes of the read buffer of those who name none: the format's own default.
const BUFFER_BYTES_DEFAULT: u64 = 128_000;

words! {
    /// Whose files.
    pub enum FsMode: "\"local\", \"localwithoverrides\", \"read\" or \"write\"" {
        /// Those of this machine.
        Local = "local",
        /// Those of this machine, but for listed paths.
        LocalWithOverrides = "localwithoverrides",
        /// The target's for reading.
        Read = "read",
        /// The target's.
        Write = "write",
    }
}

record! {
    /// Whose files the process sees.
    pub struct Fs {
        /// The rule for paths of no list.
        mode: FsMode = FsMode::Read,
        /// Paths (regular expressions) that are the target's.
        read_write: Option<OneOrMany<String>>,
        /// Paths that are the target's for reading.
        read_only: Option<OneOrMany<String>>,
        /// Paths that are this machine's.
        local: Option<OneOrMany<String>>,
        /// Paths that do not exist.
        not_found: Option<OneOrMany<String>>,
        /// Paths to look for elsewhere: pattern to replacement.
        mapping: Option<BTreeMap<String, String>>,
        /// Bytes of the target's files that are read at once; 0 turns the buffer off.
        readonly_file_buffer: u64 = BUFFER_BYTES_DEFAULT,
    }
}

impl Default for Fs {
    fn default() -> Self {
        defaults()
    }
}

/// Reads the whole of `feature.fs`.
pub(crate) fn fs(node: &Node<'_>, report: &mut Report) -> Option<Fs> {
    let of_mode = |mode| Fs {
        mode,
        ..Fs::default()
    };
    let fs = match node.tree.value {
        Value::Bool(true) => of_mode(FsMode::Read),
        Value::Bool(false) => of_mode(FsMode::Local),
        Value::Text(_) => of_mode(FsMode::decode_word(
            node,
            "a mode, true, false or an object",
            report,
        )?),
        Value::Object(_) => Fs::decode(node, report)?,
        Value::Null | Value::Number(_) | Value::List(_) => {
            return report_kind(node, "a mode, true, false or an object", report);
        }
    };
    check_buffer(&fs, node, report);
    check_patterns(node, report);
    Some(fs)
}

fn check_buffer(fs: &Fs, node: &Node<'_>, report: &mut Report) {
    let Some(buffer) = node.get("readonly_file_buffer") else {
        return;
    };
    if fs.readonly_file_buffer > BUFFER_BYTES_MAX {
        report.problem(
            &buffer,
            format!("the buffer has at most {BUFFER_BYTES_MAX} bytes"),
        );
    } else if fs.readonly_file_buffer > BUFFER_BYTES_WARN {
        report.warning(
            &buffer,
            "a buffer of more than 1 MiB slows small reads down",
        );
    }
}

/// Broken patterns are only warned of: the format has always let them through.
fn check_patterns(node: &Node<'_>, report: &mut Report) {
    for key in ["read_write", "read_only", "local", "not_found"] {
        let Some(list) = node.get(key) else { continue };
        for pattern in list.items().into_iter().chain([list]) {
            if pattern.text().is_some_and(|text| Regex::new(text).is_err()) {
                report.warning(&pattern, "not a regular expression: it matches no path");
            }
        }
    }
}

/// Says what of `feature.fs` this version does not do; `node` is the feature's, where the file has one.
pub(crate) fn tell_lacking(fs: &Fs, node: Option<&Node<'_>>, report: &mut Report) {
    if fs.mode == FsMode::Local {
        return;
    }
    let mode = node.and_then(|node| match node.tree.value {
        Value::Object(_) => node.get("mode").filter(|mode| !mode.is_null()),
        Value::Null => None,
        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => Some(node.clone()),
    });
    match mode {
        Some(mode) => report.lacks(
            &mode,
            Weight::Refused,
            format!(
                "the mode {:?} is not supported yet: write \"local\" to run with this machine's files",
                fs.mode.as_str()
            ),
        ),
        None => report.default_lacks(
            "feature.fs.mode",
            "nobody chose a mode, and the default \"read\" is not supported yet: runs as \"local\"",
        ),
    }
    for key in ["read_write", "read_only", "not_found", "mapping"] {
        if let Some(list) = node
            .and_then(|node| node.get(key))
            .filter(|list| !list.is_null())
        {
            report.lacks(
                &list,
                Weight::Refused,
                "lists of paths are not supported yet",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::read_value;

    #[test]
    fn every_form_is_read() {
        for (json, mode) in [
            ("\"local\"", FsMode::Local),
            ("\"localwithoverrides\"", FsMode::LocalWithOverrides),
            ("true", FsMode::Read),
            ("false", FsMode::Local),
            ("{}", FsMode::Read),
            ("{\"mode\": \"write\", \"local\": \".*\"}", FsMode::Write),
            ("{\"mode\": null, \"read_only\": [\"(\"]}", FsMode::Read),
        ] {
            assert_eq!(read_value(json, fs).map(|fs| fs.mode), Ok(mode), "{json}");
        }
        for bad in [
            "\"disabled\"",
            "1",
            "{\"foo\": 1}",
            "{\"readonly_file_buffer\": 99999999}",
        ] {
            assert!(read_value(bad, fs).is_err(), "{bad}");
        }
    }
}
