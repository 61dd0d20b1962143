//! `feature.fs`: whose files the process sees.
//!
//! Owns the modes and lists and which of them this version has: `local`. Leaves serving files to the agent.

use std::collections::BTreeMap;

use crate::decode::{
    Decode, OneOrMany, Record, Report, Shape, Word, defaults, record, report_kind, words,
};
use crate::diagnostic::Weight;
use crate::pattern;
use crate::support;
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
    /// Whose files the process sees. A mode alone is the same as an object with that mode; `true` is `"read"`, `false` is
    /// `"local"`. Patterns are regular expressions over whole paths and mind no case.
    pub struct Fs in more forms {
        /// The rule for paths of no list.
        /// Example: `"local"`
        mode: FsMode = FsMode::Read,
        /// Paths that are the target's for reading and writing.
        /// Example: `["^/data/.+"]`
        read_write: Option<OneOrMany<String>>,
        /// Paths that are the target's for reading.
        /// Example: `"\\.yaml$"`
        read_only: Option<OneOrMany<String>>,
        /// Paths that are this machine's.
        /// Example: `["^/tmp/.+"]`
        local: Option<OneOrMany<String>>,
        /// Paths that do not exist for the process.
        /// Example: `"\\.config/gcloud"`
        not_found: Option<OneOrMany<String>>,
        /// Paths to look for elsewhere: patterns and what they are replaced with.
        /// Example: `{"^/home/([^/]+)/app": "/etc/app/$1"}`
        mapping: Option<BTreeMap<String, String>>,
        /// Bytes of the target's files that are read at once, at most 15728640; 0 turns the buffer off.
        /// Example: `0`
        readonly_file_buffer: u64 [buffer, buffer_shape] = BUFFER_BYTES_DEFAULT,
    }
}

fn buffer(node: &Node<'_>, report: &mut Report) -> Option<u64> {
    let bytes = u64::decode(node, report)?;
    if bytes > BUFFER_BYTES_MAX {
        report.problem(
            node,
            format!("the buffer has at most {BUFFER_BYTES_MAX} bytes"),
        );
        return None;
    }
    if bytes > BUFFER_BYTES_WARN {
        report.warning(node, "a buffer of more than 1 MiB slows small reads down");
    }
    Some(bytes)
}

fn buffer_shape() -> Shape {
    Shape::Whole(BUFFER_BYTES_MAX)
}

impl Default for Fs {
    fn default() -> Self {
        defaults()
    }
}

impl Decode for Fs {
    const EXPECTED: &'static str = "a mode, true, false or an object";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let of_mode = |mode| Self {
            mode,
            ..Self::default()
        };
        match (node.truth(), &node.tree.value) {
            (Some(true), _) => Some(of_mode(FsMode::Read)),
            (Some(false), _) => Some(of_mode(FsMode::Local)),
            (None, Value::Text(_)) => {
                FsMode::decode_word(node, Self::EXPECTED, report).map(of_mode)
            }
            (None, Value::Object(_)) => {
                check_patterns(node, report);
                Self::decode_record(node, report)
            }
            (None, _) => report_kind(node, Self::EXPECTED, report),
        }
    }

    fn shape() -> Shape {
        Shape::one_of([Shape::Bool, FsMode::shape(), Self::object_shape()])
    }
}

/// Broken patterns are only warned of: the format has always let them through.
fn check_patterns(node: &Node<'_>, report: &mut Report) {
    for key in ["read_write", "read_only", "local", "not_found"] {
        let Some(list) = node.get(key) else { continue };
        for pattern in list.items().into_iter().chain([list]) {
            pattern::warn_if_broken(Some(&pattern), report);
        }
    }
}

/// Says what of `feature.fs` this version does not do; `node` is the feature's, where the file has one.
pub(crate) fn tell_lacking(fs: &Fs, node: Option<&Node<'_>>, report: &mut Report) {
    if fs.mode == FsMode::Local {
        return;
    }
    let mode = node.and_then(|node| {
        if matches!(node.tree.value, Value::Object(_)) {
            node.given("mode")
        } else {
            Some(node.clone())
        }
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
    for (key, path) in [
        ("read_write", "feature.fs.read_write"),
        ("read_only", "feature.fs.read_only"),
        ("not_found", "feature.fs.not_found"),
        ("mapping", "feature.fs.mapping"),
    ] {
        if let Some(list) = node.and_then(|node| node.given(key)) {
            support::tell(path, &list, report);
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
            assert_eq!(
                read_value(json, Fs::decode).map(|fs| fs.mode),
                Ok(mode),
                "{json}"
            );
        }
        for bad in [
            "\"disabled\"",
            "1",
            "{\"foo\": 1}",
            "{\"readonly_file_buffer\": 99999999}",
        ] {
            assert!(read_value(bad, Fs::decode).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_buffer_is_as_large_as_its_limit_and_no_larger() {
        let buffer = |bytes: u64| {
            let json = format!("{{\"readonly_file_buffer\": {bytes}}}");
            read_value(&json, Fs::decode).map(|fs| fs.readonly_file_buffer)
        };
        assert_eq!(buffer(15_728_640), Ok(15_728_640));
        assert!(buffer(15_728_641).is_err());
    }
}
