//! From a path to a `Config`: open, render, parse, decode, check, resolve; every error of each step at once.
//!
//! Owns the order of the steps, the key's pre-pass, and turning findings into diagnostics. Leaves the steps to their
//! modules. The only I/O of this crate is here and in `git_branch` and `EnvRules::read_env_file`: reading files.

mod git_branch;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Namespace;

use crate::config::{Config, KeyOrigin, SessionKey};
use crate::decode::{Finding, Lacking, Report};
use crate::diagnostic::{Diagnostic, ERRORS_MAX, Rejected, Unsupported, Weight};
use crate::environment::Environment;
use crate::format::{Format, FormatError, SyntaxError};
use crate::overrides::{self, Flag};
use crate::root;
use crate::target::TargetChoice;
use crate::template::{self, TemplateError, Variables};
use crate::text::mask::Masks;
use crate::text::{SourceText, Sources, Span};
use crate::tree::{Node, Tree, report_duplicates};

pub use git_branch::git_branch;

/// The variable that names git's branch where git cannot tell, such as in continuous integration.
const BRANCH_NAME: &str = "MIRRORD_BRANCH_NAME";

/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

const STANDARD_INPUT_HINT: &str =
    "standard input is read as JSON: what is YAML or TOML is told by a file's extension";

/// Bytes that a configuration file may have: real ones have a few thousand.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What of the world around it a file may refer to, and what the command line said instead of it.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where relative paths of the file (`env_file`) start: the working directory.
    pub directory: PathBuf,
    /// The caller's environment: for `get_env`, for the variables that win over the file, and for
    /// `MIRRORD_BRANCH_NAME`, which wins over git's branch.
    pub environment: Arc<Environment>,
    /// The branch that git has checked out; see [`git_branch()`].
    pub git_branch: Option<String>,
    /// The session's key, from `--key` or `MIRRORD_KEY`: wins over the file's.
    pub key: Option<String>,
    /// The session's key where nobody chose one. Not empty.
    pub random_key: String,
    /// The target of the command line: wins over the file's.
    pub target: Option<TargetChoice>,
    /// The namespace of the command line: wins over the file's.
    pub namespace: Option<Namespace>,
    /// Whether a file without target has none: an editor may still ask for one.
    pub is_target_final: bool,
    /// Further flags: they win over the environment's variables, and those over the file.
    pub flags: Vec<Flag>,
}

impl Surroundings {
    /// Nothing but a directory and a key for those who chose none.
    pub fn new(directory: impl Into<PathBuf>, random_key: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            environment: Arc::default(),
            git_branch: None,
            key: None,
            random_key: random_key.into(),
            target: None,
            namespace: None,
            is_target_final: true,
            flags: Vec::new(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read the configuration file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is larger than [`CONFIG_BYTES_MAX`].
    #[error("the configuration file {path} has more than {CONFIG_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not text.
    #[error("the configuration file {path} is not UTF-8: byte {valid_up_to} is no character")]
    NotText {
        /// The file.
        path: PathBuf,
        /// How many bytes are.
        valid_up_to: usize,
    },
    /// The file says something wrong.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// Reads a configuration file, or standard input for `-`, and checks everything in it that can be checked without a
/// target.
///
/// # Errors
/// [`ReadError::Rejected`] has every error of the file; the other kinds are about reading it at all.
pub fn read(path: &Path, surroundings: &Surroundings) -> Result<Config, ReadError> {
    let failed = |source| ReadError::Open {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let mut read = |from: &mut dyn Read| from.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
    if path == Path::new(STANDARD_INPUT) {
        read(&mut io::stdin().lock()).map_err(failed)?;
    } else {
        let mut file = std::fs::File::open(path).map_err(failed)?;
        read(&mut file).map_err(failed)?;
    }
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ReadError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| ReadError::NotText {
        path: path.to_owned(),
        valid_up_to: error.utf8_error().valid_up_to(),
    })?;
    Ok(read_text(path, &text, surroundings)?)
}

/// Reads the text of a configuration file; `path` names it and its extension says the format. Standard input is `-`.
///
/// # Errors
/// Every error of the file.
pub fn read_text(path: &Path, text: &str, surroundings: &Surroundings) -> Result<Config, Rejected> {
    let original = SourceText::new(path.display().to_string(), text);
    let format = Format::of(path).map_err(|error| {
        let mut fault = Fault::new(0..0, error.to_string());
        fault.hint = Some(FormatError::HINT.to_owned());
        fault.reject(&original, None)
    })?;
    let prepared = prepare(&original, format, surroundings)?;
    resolve(&original, prepared, surroundings)
}

/// A text that is a tree: rendered where the file is a template.
struct Prepared {
    /// None: the file as it is.
    rendered: Option<SourceText>,
    tree: Tree,
    key: SessionKey,
}

/// The one error of a text that cannot be read at all.
struct Fault {
    span: Span,
    text: String,
    hint: Option<String>,
    /// A word of the text that may be shown though the format does not know it.
    word: Option<String>,
}

impl Fault {
    fn new(span: Span, text: impl Into<String>) -> Self {
        Self {
            span,
            text: text.into(),
            hint: None,
            word: None,
        }
    }

    /// The name of a variable or filter that a template uses is no secret.
    fn of_template(error: TemplateError, text: &str) -> Self {
        let marked = text.get(error.span.clone()).unwrap_or_default();
        let is_name = marked.chars().all(|c| c.is_alphanumeric() || c == '_');
        Self {
            word: is_name.then(|| marked.to_owned()),
            hint: error.hint,
            ..Self::new(error.span, error.text)
        }
    }

    /// Of a broken text only words of the format are shown; `rendered` is the text that `span` is in.
    fn reject(self, original: &SourceText, rendered: Option<&SourceText>) -> Rejected {
        let source = rendered.unwrap_or(original);
        let line = source.line_span(self.span.start);
        let mut known = root::vocabulary();
        if template::is_template(&source.text) {
            known.extend(template::vocabulary());
        }
        known.extend(self.word.as_deref());
        let masks = Masks::of_words(&source.text, &line, &known);
        Rejected {
            errors: vec![Diagnostic {
                file: source.name.clone(),
                place: source.place(self.span.start),
                path: String::new(),
                text: self.text,
                hint: self.hint,
                excerpt: source.excerpt(&self.span, &masks),
            }],
            errors_left_out: 0,
            warnings: Vec::new(),
        }
    }
}

impl From<SyntaxError> for Fault {
    fn from(error: SyntaxError) -> Self {
        Self {
            span: error.span,
            text: error.text,
            hint: error.hint,
            word: None,
        }
    }
}

/// Renders and parses; a key that the file gives itself is known to its own template in a second pass.
fn prepare(
    original: &SourceText,
    format: Format,
    surroundings: &Surroundings,
) -> Result<Prepared, Rejected> {
    let pass = |key: SessionKey| -> Result<Prepared, Rejected> {
        let rendered = if template::is_template(&original.text) {
            let named = surroundings
                .environment
                .get(OsStr::new(BRANCH_NAME))
                .and_then(|name| name.to_str());
            let variables = Variables {
                key: &key.text,
                git_branch: named.or(surroundings.git_branch.as_deref()),
                environment: &surroundings.environment,
            };
            let text = template::render(&original.text, &variables).map_err(|error| {
                Fault::of_template(error, &original.text).reject(original, None)
            })?;
            Some(SourceText::new(original.name.clone(), text))
        } else {
            None
        };
        let text = &rendered.as_ref().unwrap_or(original).text;
        let tree = format.parse(text).map_err(|error| {
            let mut fault = Fault::from(error);
            if original.name == STANDARD_INPUT && !text.trim_start().starts_with(['{', '/']) {
                fault.hint = Some(STANDARD_INPUT_HINT.to_owned());
            }
            fault.reject(original, rendered.as_ref())
        })?;
        Ok(Prepared {
            rendered,
            tree,
            key,
        })
    };
    if let Some(given) = &surroundings.key {
        return pass(SessionKey::new(given, KeyOrigin::Given));
    }
    let first = pass(SessionKey::new(&surroundings.random_key, KeyOrigin::Random))?;
    let Some(own) = key_in(&first.tree).map(str::to_owned) else {
        return Ok(first);
    };
    let second = pass(SessionKey::new(&own, KeyOrigin::File))?;
    if key_in(&second.tree) == Some(&own) {
        Ok(second)
    } else {
        let node = Node::root(&second.tree);
        let span = node.get("key").map_or(0..0, |key| key.tree.span.clone());
        let fault = Fault::new(span, "key: the key is made from itself");
        Err(fault.reject(original, second.rendered.as_ref()))
    }
}

fn key_in(tree: &Tree) -> Option<&str> {
    Node::root(tree).get("key").and_then(|key| key.text())
}

fn resolve(
    original: &SourceText,
    prepared: Prepared,
    surroundings: &Surroundings,
) -> Result<Config, Rejected> {
    let Prepared {
        rendered,
        mut tree,
        key,
    } = prepared;
    let template = rendered.is_some().then_some(original.text.as_str());
    let mut sources = Sources::new(rendered.unwrap_or_else(|| original.clone()));
    overrides::apply(
        &mut tree,
        &mut sources,
        &surroundings.environment,
        &surroundings.flags,
    );
    let node = Node::root(&tree);
    let mut report = Report::with_homes(root::homes());
    report_duplicates(&node, &mut report);
    let config = root::resolve(&node, &key, surroundings, &mut report);
    let Report {
        mut problems,
        mut warnings,
        lacking,
        ..
    } = report;
    let errors_left_out = problems.len().saturating_sub(ERRORS_MAX);
    for findings in [&mut problems, &mut warnings] {
        findings.sort_by_key(|finding| finding.span.start);
        findings.truncate(ERRORS_MAX);
    }
    let shown = problems
        .iter()
        .chain(&warnings)
        .map(|finding| sources.near(&finding.span));
    let masks = Masks::of_tree(&node, &sources, template, shown.collect());
    let warnings = diagnose(warnings, &sources, &masks);
    match config {
        Some(mut config) if problems.is_empty() => {
            config.warnings = warnings;
            config.unsupported = place_lacking(lacking, &sources);
            Ok(config)
        }
        Some(_) | None => Err(Rejected {
            errors_left_out,
            errors: diagnose(problems, &sources, &masks),
            warnings,
        }),
    }
}

/// What cannot be done, with places: in the order of the file, and what only defaults chose at the end. Of very many
/// the refused ones stay: each place costs the length of its line.
fn place_lacking(mut lacking: Vec<Lacking>, sources: &Sources) -> Vec<Unsupported> {
    lacking.sort_by_key(|lacking| lacking.weight != Weight::Refused);
    lacking.truncate(ERRORS_MAX);
    lacking.sort_by_key(|lacking| lacking.span.as_ref().map_or(usize::MAX, |span| span.start));
    let place = |lacking: Lacking| {
        let start = lacking.span.map(|span| span.start);
        Unsupported {
            path: lacking.path,
            file: start.map(|start| sources.name(start).to_owned()),
            place: start.map(|start| sources.place(start)),
            effect: lacking.effect,
            weight: lacking.weight,
        }
    };
    lacking.into_iter().map(place).collect()
}

fn diagnose(findings: Vec<Finding>, sources: &Sources, masks: &Masks) -> Vec<Diagnostic> {
    findings
        .into_iter()
        .map(|finding| Diagnostic {
            file: sources.name(finding.span.start).to_owned(),
            place: sources.place(finding.span.start),
            path: finding.path,
            text: match finding.also {
                Some(span) => {
                    format!(
                        "{} (first on line {})",
                        finding.text,
                        sources.place(span.start).line
                    )
                }
                None => finding.text,
            },
            hint: finding.hint,
            excerpt: sources.excerpt(&finding.span, masks),
        })
        .collect()
}

#[cfg(test)]
mod tests;
