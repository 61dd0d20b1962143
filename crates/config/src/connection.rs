//! `connection`: where the source's address is found, and which variables must lead to the branch.
//!
//! Owns the resolved form, and with it: `written` (every shape of the file), `render` (the same the other way), `locate` (the source's URL from an
//! environment), `rewrite` (the same variables with the branch's address). Leaves asking databases to the engine.

mod locate;
mod render;
mod rewrite;
mod written;

use std::collections::BTreeMap;
use std::fmt;

use fancy_regex::Regex;
use model::Secret;

pub use locate::{LocateError, SourceConnection, Values};
pub use rewrite::{Destination, RewriteError};
pub(crate) use written::{params_shape, vocabulary};

/// Where the variable of a connection is defined on its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableKind {
    /// Anywhere.
    Any,
    /// In the container's `env`.
    Env,
    /// In a ConfigMap or Secret that the container takes whole (`envFrom`).
    EnvFrom,
}

/// A regular expression whose first group is the value.
#[derive(Debug, Clone)]
pub struct ValuePattern(Regex);

impl ValuePattern {
    /// Takes `regex`; none when it has no group.
    pub(crate) fn new(regex: Regex) -> Option<Self> {
        (regex.captures_len() > 1).then_some(Self(regex))
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Where in `text` the value stands.
    fn find(&self, text: &str) -> Option<std::ops::Range<usize>> {
        let captures = self.0.captures(text).ok().flatten()?;
        captures.get(1).map(|group| group.range())
    }
}

impl PartialEq for ValuePattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Where one value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A variable's whole value.
    Variable {
        /// Its name.
        name: String,
        /// Where on the target it is defined.
        kind: VariableKind,
        /// The container that has it; none: the target's.
        container: Option<String>,
        /// A value of the file's own, in place of the target's.
        literal: Option<Secret>,
    },
    /// A part of a variable's value.
    Pattern {
        /// The variable's name.
        name: String,
        /// Which part.
        pattern: ValuePattern,
    },
    /// A key of a Kubernetes Secret.
    Secret {
        /// The Secret.
        name: String,
        /// The key.
        key: String,
        /// The variable that the process reads; none: the process is not told.
        variable: Option<String>,
    },
    /// A secret of Google's Secret Manager.
    GcpSecretManager {
        /// Its resource name.
        reference: String,
        /// The variable that the process reads; none: the process is not told.
        variable: Option<String>,
    },
}

impl Origin {
    /// The variable that the process reads.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Variable { name, .. } | Self::Pattern { name, .. } => Some(name),
            Self::Secret { variable, .. } | Self::GcpSecretManager { variable, .. } => {
                variable.as_deref()
            }
        }
    }

    /// Whether the value is the target's: not a literal of the file.
    pub fn is_from_target(&self) -> bool {
        !matches!(
            self,
            Self::Variable {
                literal: Some(_),
                ..
            }
        )
    }
}

/// One of the values that a connection is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Param {
    /// The host, or `host:port`.
    Host,
    /// The port.
    Port,
    /// The user.
    User,
    /// The password.
    Password,
    /// The database.
    Database,
    /// How TLS is used.
    SslMode,
    /// A parameter that means nothing for PostgreSQL: not supported.
    Other(String),
}

impl Param {
    fn from_key(key: &str) -> Self {
        match key {
            "host" => Self::Host,
            "port" => Self::Port,
            "user" => Self::User,
            "password" => Self::Password,
            "database" => Self::Database,
            "sslmode" => Self::SslMode,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The key in the file.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Host => "host",
            Self::Port => "port",
            Self::User => "user",
            Self::Password => "password",
            Self::Database => "database",
            Self::SslMode => "sslmode",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the source's address is found. The first of several origins is the source, all lead to the branch afterwards.
#[derive(Debug, Clone, PartialEq)]
pub enum Connection {
    /// Whole connection strings; at least one.
    Url(Vec<Origin>),
    /// Values one by one; at least one, each with at least one origin.
    Params(BTreeMap<Param, Vec<Origin>>),
}

impl Connection {
    /// Every origin with the parameter that it gives; none for whole connection strings.
    pub fn origins(&self) -> Vec<(Option<&Param>, &Origin)> {
        match self {
            Self::Url(origins) => origins.iter().map(|origin| (None, origin)).collect(),
            Self::Params(params) => params
                .iter()
                .flat_map(|(param, origins)| {
                    origins.iter().map(move |origin| (Some(param), origin))
                })
                .collect(),
        }
    }

    /// The variables that will lead to the branch, each once, in alphabetical order.
    pub fn variables(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .origins()
            .into_iter()
            .filter_map(|(_, origin)| origin.variable())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests;
