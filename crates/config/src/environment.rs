//! `feature.env`: which variables the process gets, and making its environment.
//!
//! Owns the rules, their order (`EnvRules::apply`), and what each rule does to one variable (`EnvRules::rule_against`).
//! `written` reads them from a file, `wildcard` matches names, `dotenv` reads an env_file, `own` lists the names that
//! always stay this machine's. Leaves getting the target's environment to the context.

pub mod dotenv;
mod own;
mod wildcard;
mod written;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use model::Secret;

use crate::decode::{defaults, record};
use crate::pattern;
use dotenv::DotenvError;

pub use own::OWN_VARIABLES;
pub use wildcard::Wildcard;
pub(crate) use written::WrittenRules;

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
