//! `feature.env`: which variables the process gets, and making its environment.
//!
//! Owns the rules, their order (`EnvRules::apply`), and what each rule does to one variable (`EnvRules::rule_against`).
//! `wildcard` matches names, `dotenv` reads an env_file, `own` lists the names that always stay this machine's. Leaves
//! getting the target's environment to the context.

pub mod dotenv;
mod own;
mod wildcard;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use model::Secret;

use crate::decode::{
    Decode, OneOrMany, Record, Render, Report, Shape, defaults, record, report_kind,
};
use crate::json::Json;
use crate::pattern;
use crate::tree::{Node, Value};
use dotenv::DotenvError;

pub use own::OWN_VARIABLES;
pub use wildcard::Wildcard;

/// Variables with their values, as processes have them.
pub type Environment = BTreeMap<OsString, OsString>;

/// Bytes that an env_file may have: the kernel gives a process less for its whole environment.
pub(crate) const ENV_FILE_BYTES_MAX: u64 = 1 << 20;

/// The variable that `feature.magic.aws` removes, so that a profile of this machine does not win over the target's role.
const AWS_PROFILE: &str = "AWS_PROFILE";

/// Which of the target's variables come along. The names of [`OWN_VARIABLES`] never do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    #[default]
    All,
    /// None: `"env": false`.
    None,
    /// Those that a pattern of the list matches.
    Include(Vec<Wildcard>),
    /// All but those that a pattern of the list matches.
    Exclude(Vec<Wildcard>),
}

impl Selection {
    fn takes(&self, name: &str) -> bool {
        let matches = |list: &[Wildcard]| list.iter().any(|pattern| pattern.matches(name));
        !own::is_own(name)
            && match self {
                Self::All => true,
                Self::None => false,
                Self::Include(list) => matches(list),
                Self::Exclude(list) => !matches(list),
            }
    }
}

/// A value for every variable whose name matches.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Matches names, anywhere in them.
    pub pattern: Regex,
    /// What they all get.
    pub value: Secret,
}

impl PartialEq for Mapping {
    fn eq(&self, other: &Self) -> bool {
        self.pattern.as_str() == other.pattern.as_str() && self.value == other.value
    }
}

/// Which variables the process gets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EnvRules {
    /// Which of the target's variables come along.
    pub selection: Selection,
    /// A file of further variables; relative to the working directory, as it was written.
    pub env_file: Option<PathBuf>,
    /// The first that matches a variable of the target or of the file gives its value.
    pub mapping: Vec<Mapping>,
    /// Variables with values of their own.
    pub overrides: BTreeMap<String, Secret>,
    /// Variables that the process does not get, in whatever case.
    pub unset: Vec<String>,
    /// When variables are fetched: no effect here, where a process has them from its start.
    pub load_from_process: Option<bool>,
}

/// A rule that takes a variable away from the target's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It is one of [`OWN_VARIABLES`].
    Own,
    /// `"env": false`.
    Off,
    /// `feature.env.include` does not name it.
    Include,
    /// `feature.env.exclude` names it.
    Exclude,
    /// `feature.env.mapping` replaces it.
    Mapping,
    /// `feature.env.override` replaces it.
    Override,
    /// `feature.env.unset` removes it.
    Unset,
}

/// Why an env_file gives no variables.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("cannot read the env_file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too large or not UTF-8.
    #[error("the env_file {path} is not a text of at most {ENV_FILE_BYTES_MAX} bytes")]
    Text {
        /// The file.
        path: PathBuf,
    },
    /// It says something wrong.
    #[error("the env_file {path} has an error")]
    Dotenv {
        /// The file.
        path: PathBuf,
        /// What.
        #[source]
        source: DotenvError,
    },
}

impl EnvRules {
    /// Reads the env_file, where there is one. References in it (`$NAME`) look into `caller`, then into the file.
    ///
    /// # Errors
    /// [`EnvFileError`] names the file, and the line where the file itself is wrong.
    pub fn read_env_file(
        &self,
        directory: &Path,
        caller: &Environment,
    ) -> Result<Option<Environment>, EnvFileError> {
        let Some(path) = self.env_file.as_ref().map(|path| directory.join(path)) else {
            return Ok(None);
        };
        let failed = |source| EnvFileError::Read {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&path).map_err(failed)?;
        file.take(ENV_FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > ENV_FILE_BYTES_MAX {
            return Err(EnvFileError::Text { path });
        }
        let Ok(text) = String::from_utf8(bytes) else {
            return Err(EnvFileError::Text { path });
        };
        match dotenv::parse(&text, caller) {
            Ok(variables) => Ok(Some(variables)),
            Err(source) => Err(EnvFileError::Dotenv { path, source }),
        }
    }

    /// The environment of the process, in this order: the target's variables (filtered), the env_file's, mapping,
    /// override, all of that over the caller's own; then unset; then the branch variables, last.
    pub fn apply(
        &self,
        target: &Environment,
        env_file: Option<&Environment>,
        caller: &Environment,
        branch_variables: &BTreeMap<String, Secret>,
    ) -> Environment {
        let mut taken: Environment = target
            .iter()
            .filter(|(name, _)| self.selection.takes(&name.to_string_lossy()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, value) in env_file.into_iter().flatten() {
            taken.insert(name.clone(), value.clone());
        }
        for (name, value) in &mut taken {
            if let Some(mapping) = self.mapping_of(&name.to_string_lossy()) {
                *value = mapping.value.reveal().into();
            }
        }
        let mut environment = caller.clone();
        environment.extend(taken);
        insert_all(&mut environment, &self.overrides);
        environment.retain(|name, _| !self.unsets(&name.to_string_lossy()));
        insert_all(&mut environment, branch_variables);
        environment
    }

    /// The rule, if any, by which the process would not get the target's value of `name`.
    ///
    /// The env_file is not asked: see [`EnvRules::read_env_file`].
    pub fn rule_against(&self, name: &str) -> Option<Rule> {
        if self.overrides.contains_key(name) {
            return Some(Rule::Override);
        }
        if self.unsets(name) {
            return Some(Rule::Unset);
        }
        if self.mapping_of(name).is_some() {
            return Some(Rule::Mapping);
        }
        if own::is_own(name) {
            return Some(Rule::Own);
        }
        if self.selection.takes(name) {
            return None;
        }
        match self.selection {
            Selection::All => None,
            Selection::None => Some(Rule::Off),
            Selection::Include(_) => Some(Rule::Include),
            Selection::Exclude(_) => Some(Rule::Exclude),
        }
    }

    fn mapping_of(&self, name: &str) -> Option<&Mapping> {
        self.mapping
            .iter()
            .find(|mapping| pattern::is_match(&mapping.pattern, name))
    }

    fn unsets(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.unset.iter().any(|unset| unset.to_lowercase() == name)
    }

    /// What `feature.magic.aws` stands for.
    pub(crate) fn add_aws_magic(&mut self) {
        if !self.unsets(AWS_PROFILE) {
            self.unset.push(AWS_PROFILE.to_owned());
        }
    }
}

fn insert_all(environment: &mut Environment, variables: &BTreeMap<String, Secret>) {
    for (name, value) in variables {
        environment.insert(OsStr::new(name).to_owned(), value.reveal().into());
    }
}

record! {
    /// Which variables the process gets. `true` is all of the target's, `false` none of them. The target's own come first,
    /// then `env_file`, `mapping` and `override`, all of that over the caller's environment; then `unset` removes; the
    /// variables that lead to branches come last.
    pub(crate) struct WrittenRules in more forms {
        /// The only variables of the target that come along, by name; `*` stands for any characters, `?` for one. A list,
        /// or one text with `;` between names. Not beside `exclude`.
        /// Example: `["DATABASE_*", "REDIS_URL"]`
        include: Option<OneOrMany<String>>,
        /// Variables of the target that stay behind, in the same forms. Not beside `include`.
        /// Example: `"AWS_*;SENTRY_DSN"`
        exclude: Option<OneOrMany<String>>,
        /// Variables with values of their own.
        /// Example: `{"LOG_LEVEL": "debug"}`
        overrides as "override": Option<BTreeMap<String, Secret>>,
        /// Values for every variable of the target or of `env_file` whose name the pattern matches.
        /// Example: `{".+_TIMEOUT": "1000"}`
        mapping: Option<Mappings>,
        /// Variables that the process does not get, in whatever case. `feature.magic.aws` adds `AWS_PROFILE`.
        /// Example: `["AWS_PROFILE"]`
        unset: Option<OneOrMany<String>>,
        /// A dotenv file, whose variables come over the target's. A relative path starts at the working directory.
        /// Example: `".env"`
        env_file: Option<String>,
        /// Whether variables are fetched only after the process has started.
        load_from_process: Option<bool>,
    }
}

/// Mappings in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mappings(Vec<Mapping>);

impl Decode for Mappings {
    const EXPECTED: &'static str = "an object of patterns and values";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        let read: Vec<Option<Mapping>> = node
            .members()
            .iter()
            .map(|member| {
                let child = Node {
                    path: node.path_to(&member.key),
                    tree: &member.value,
                };
                let value = Secret::decode(&child, report);
                match pattern::compile(&member.key) {
                    Ok(pattern) => value.map(|value| Mapping { pattern, value }),
                    Err(error) => {
                        pattern::report_broken(
                            &child.path,
                            member.key_span.clone(),
                            &error,
                            report,
                        );
                        None
                    }
                }
            })
            .collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn shape() -> Shape {
        Shape::text("values under regular expressions").map()
    }
}

impl Render for Mappings {
    fn render(&self) -> Json {
        render_mapping(&self.0)
    }
}

fn render_mapping(mapping: &[Mapping]) -> Json {
    Json::object(
        mapping
            .iter()
            .map(|mapping| (mapping.pattern.as_str(), mapping.value.render())),
    )
}

fn split_patterns(list: Option<OneOrMany<String>>) -> Option<Vec<Wildcard>> {
    list.map(|OneOrMany(entries)| {
        entries
            .iter()
            .flat_map(|entry| entry.split(';'))
            .map(str::trim)
            .filter(|pattern| !pattern.is_empty())
            .map(Wildcard::new)
            .collect()
    })
}

impl Decode for EnvRules {
    const EXPECTED: &'static str = "true, false or an object";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match (node.truth(), &node.tree.value) {
            (Some(true), _) => Some(Self::default()),
            (Some(false), _) => Some(Self {
                selection: Selection::None,
                ..Self::default()
            }),
            (None, Value::Object(_)) => {
                let rules = read_rules(node, report);
                hint_at_variables(node, report);
                rules
            }
            (None, _) => {
                report_kind::<()>(node, Self::EXPECTED, report);
                if matches!(node.tree.value, Value::List(_)) {
                    report.hint_at(&node.path, "write {\"include\": [...]} to name variables");
                }
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([Shape::Bool, WrittenRules::object_shape()])
    }
}

/// Whoever writes variables themselves is told where their values stand.
fn hint_at_variables(node: &Node<'_>, report: &mut Report) {
    for member in node.members() {
        let is_variable = matches!(member.value.value, Value::Text(_))
            && member.key.chars().any(|c| c.is_ascii_uppercase());
        if is_variable {
            report.hint_at(
                &node.path_to(&member.key),
                "values of variables stand under \"override\"",
            );
        }
    }
}

fn read_rules(node: &Node<'_>, report: &mut Report) -> Option<EnvRules> {
    let written = WrittenRules::decode_record(node, report)?;
    let selection = match (
        split_patterns(written.include),
        split_patterns(written.exclude),
    ) {
        (Some(_), Some(_)) => {
            report
                .problem(node, "\"include\" and \"exclude\" exclude each other")
                .hint("keep one of them");
            return None;
        }
        (Some(include), None) => Selection::Include(include),
        (None, Some(exclude)) => Selection::Exclude(exclude),
        (None, None) => Selection::All,
    };
    Some(EnvRules {
        selection,
        env_file: written.env_file.map(PathBuf::from),
        mapping: written.mapping.map_or_else(Vec::new, |Mappings(list)| list),
        overrides: written.overrides.unwrap_or_default(),
        unset: written.unset.map_or_else(Vec::new, |OneOrMany(list)| list),
        load_from_process: written.load_from_process,
    })
}

impl Render for EnvRules {
    fn render(&self) -> Json {
        let patterns =
            |list: &[Wildcard]| Json::list(list.iter().map(|pattern| Json::text(pattern.as_str())));
        let (include, exclude) = match &self.selection {
            Selection::All => (Json::Null, Json::Null),
            Selection::None => (Json::Null, Json::list([Json::from("*")])),
            Selection::Include(list) => (patterns(list), Json::Null),
            Selection::Exclude(list) => (Json::Null, patterns(list)),
        };
        let file = self.env_file.as_ref();
        Json::object([
            ("include", include),
            ("exclude", exclude),
            ("override", self.overrides.render()),
            ("mapping", render_mapping(&self.mapping)),
            ("unset", self.unset.render()),
            (
                "env_file",
                file.map_or(Json::Null, |path| Json::text(path.to_string_lossy())),
            ),
            ("load_from_process", self.load_from_process.render()),
        ])
    }
}

record! {
    /// What the format does unasked.
    pub struct Magic {
        /// Removes `AWS_PROFILE` from the process's environment, so that the target's role counts.
        aws: bool = true,
        /// Whether what the target has mounted is there for the process as well.
        auto_mount: bool = true,
        /// Whether the target's files are read ahead.
        turbo: bool = true,
    }
}

impl Default for Magic {
    fn default() -> Self {
        defaults()
    }
}

#[cfg(test)]
mod tests;
