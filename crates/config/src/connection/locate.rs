//! Finding the source: the connection string that an environment leads to.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use model::pg_url::{PgUrlError, split_host_port};
use model::{PgUrl, Secret};

use super::{Connection, Origin, Param, VariableKind};
use crate::decode::nearest;
use crate::environment::Environment;

/// What a connection's values are read from.
#[derive(Debug, Clone, Default)]
pub struct Values<'a> {
    /// The target's environment: its container's `env`, or everything where that is one.
    pub environment: Option<&'a Environment>,
    /// Variables of the ConfigMaps and Secrets that its container takes whole (`envFrom`), where they are known apart.
    pub env_from: Option<&'a Environment>,
    /// Keys of Secrets, by the Secret's name and the key.
    pub secrets: BTreeMap<(String, String), Secret>,
    /// Secrets of Google's Secret Manager, by their resource names.
    pub gcp_secrets: BTreeMap<String, Secret>,
}

impl<'a> Values<'a> {
    /// One environment, and nothing that only a cluster has.
    pub fn of(environment: &'a Environment) -> Self {
        Self {
            environment: Some(environment),
            ..Self::default()
        }
    }

    /// Where a variable of this kind is looked for, first the place that it is said to be in.
    fn places(&self, kind: VariableKind) -> impl Iterator<Item = &'a Environment> {
        let places = match kind {
            VariableKind::Any | VariableKind::Env => [self.environment, self.env_from],
            VariableKind::EnvFrom => [self.env_from, self.environment],
        };
        places.into_iter().flatten()
    }
}

/// The source as the target's environment names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceConnection {
    /// How the target connects.
    pub url: PgUrl,
    /// The variables that said so: the first of each list.
    pub variables: Vec<String>,
}

/// Why the source cannot be found. No value is ever shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// The environment has no such variable.
    #[error("{variable} is not in the target's environment")]
    Missing {
        /// The variable.
        variable: String,
        /// The nearest name that is there.
        nearest: Option<String>,
    },
    /// The variable is there and empty.
    #[error("{variable} is empty in the target's environment")]
    Empty {
        /// The variable.
        variable: String,
    },
    /// The value is not UTF-8.
    #[error("the value of {variable} in the target's environment is not UTF-8")]
    NotText {
        /// The variable.
        variable: String,
    },
    /// The value is no connection string of PostgreSQL.
    #[error(
        "the value of {variable} in the target's environment is no connection string of PostgreSQL"
    )]
    NotAUrl {
        /// The variable.
        variable: String,
        /// Why.
        #[source]
        source: PgUrlError,
    },
    /// The values of several variables do not make a connection.
    #[error("the values of {} do not make a connection", variables.join(", "))]
    NotAConnection {
        /// The variables.
        variables: Vec<String>,
        /// Why.
        #[source]
        source: PgUrlError,
    },
    /// The pattern finds nothing.
    #[error(
        "the pattern {pattern:?} finds nothing in the value of {variable} in the target's environment"
    )]
    NoMatch {
        /// The variable.
        variable: String,
        /// The pattern.
        pattern: String,
    },
    /// Something without which no connection can be made or led elsewhere is not named.
    #[error("the connection's params name no {param}")]
    NoParam {
        /// What is missing.
        param: Param,
    },
    /// A parameter that this engine does not know.
    #[error("the connection's params name {param}, which means nothing for PostgreSQL")]
    UnknownParam {
        /// The parameter.
        param: Param,
    },
    /// Neither the connection nor PGHOST names a host: each client would look somewhere else.
    #[error("{} no host, and there is no PGHOST", names(variables))]
    NoHost {
        /// The variables.
        variables: Vec<String>,
    },
    /// Neither the connection nor PGUSER names a user: each client would take the name of its own account.
    #[error("{} no user, and there is no PGUSER", names(variables))]
    NoUser {
        /// The variables.
        variables: Vec<String>,
    },
    /// The host stands in a file of services, which only libpq reads.
    #[error("{} no host but by a service of libpq's", names(variables))]
    Service {
        /// The variables.
        variables: Vec<String>,
    },
    /// Only a cluster can give the value.
    #[error("{what} can be read in a cluster only")]
    ClusterOnly {
        /// The Secret, by name.
        what: String,
    },
}

impl LocateError {
    /// What the file's author can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing {
                nearest: Some(name),
                ..
            } => Some(format!("did you mean {name}?")),
            Self::Missing { nearest: None, .. } => Some(
                "name a variable that the target has, or give its value as \"value\"".to_owned(),
            ),
            Self::NoParam { param } => Some(format!(
                "add {:?} to \"params\": without it the process cannot be led to the branch",
                param.as_str()
            )),
            Self::ClusterOnly { .. } => {
                Some("name a variable, or give the value as \"value\"".to_owned())
            }
            Self::UnknownParam { .. } => Some(
                "its parameters are host, port, user, password, database and sslmode".to_owned(),
            ),
            Self::NotAUrl {
                source: PgUrlError::Form,
                ..
            } => Some(
                "\"params\" with a \"value_pattern\" each reads the parts of another form, such as \"host=([^,]+)\"".to_owned(),
            ),
            Self::NoUser { .. } => Some(
                "where another variable holds the user, \"params\" names each: \"host\", \"port\" and \"database\" by a \
                 \"value_pattern\" of the connection's variable, \"user\" and \"password\" by their own"
                    .to_owned(),
            ),
            Self::NoHost { .. } | Self::Service { .. } => Some(
                "write the host into the connection, or name the whole of it as \"value\"".to_owned(),
            ),
            Self::Empty { .. }
            | Self::NotText { .. }
            | Self::NotAUrl { .. }
            | Self::NotAConnection { .. }
            | Self::NoMatch { .. } => None,
        }
    }
}

fn names(variables: &[String]) -> String {
    let verb = if variables.len() == 1 {
        "names"
    } else {
        "name"
    };
    format!("{} {verb}", variables.join(", "))
}

/// The value of an origin, literals first.
pub(super) fn value_of(origin: &Origin, values: &Values<'_>) -> Result<String, LocateError> {
    match origin {
        Origin::Variable {
            literal: Some(literal),
            ..
        } => Ok(literal.reveal().to_owned()),
        Origin::Variable { name, kind, .. } => read(name, *kind, values),
        Origin::Pattern { name, pattern } => {
            let value = read(name, VariableKind::Any, values)?;
            match pattern.find(&value) {
                Some(range) => Ok(value[range].to_owned()),
                None => Err(LocateError::NoMatch {
                    variable: name.clone(),
                    pattern: pattern.as_str().to_owned(),
                }),
            }
        }
        Origin::Secret { name, key, .. } => values
            .secrets
            .get(&(name.clone(), key.clone()))
            .map(|secret| secret.reveal().to_owned())
            .ok_or_else(|| LocateError::ClusterOnly {
                what: format!("the key {key:?} of the Secret {name:?}"),
            }),
        Origin::GcpSecretManager { reference, .. } => values
            .gcp_secrets
            .get(reference)
            .map(|secret| secret.reveal().to_owned())
            .ok_or_else(|| LocateError::ClusterOnly {
                what: format!("the secret {reference:?} of Google's Secret Manager"),
            }),
    }
}

/// A variable, as text without the ends of lines behind it, and not empty.
pub(super) fn read(
    name: &str,
    kind: VariableKind,
    values: &Values<'_>,
) -> Result<String, LocateError> {
    let variable = || name.to_owned();
    let found = values
        .places(kind)
        .find_map(|environment| environment.get(OsStr::new(name)));
    let Some(value) = found else {
        let there: Vec<&str> = values
            .places(kind)
            .flat_map(|environment| environment.keys())
            .filter_map(|key| key.to_str())
            .collect();
        return Err(LocateError::Missing {
            variable: variable(),
            nearest: nearest(name, there).map(str::to_owned),
        });
    };
    match value.to_str() {
        None => Err(LocateError::NotText {
            variable: variable(),
        }),
        // As clients take it: `echo ... | base64` puts a line's end into many a Secret.
        Some(text) => match text.trim_end_matches(['\r', '\n']) {
            "" => Err(LocateError::Empty {
                variable: variable(),
            }),
            text => Ok(text.to_owned()),
        },
    }
}

/// The name that errors use for an origin.
pub(super) fn name_of(origin: &Origin) -> String {
    origin.variable().unwrap_or("the Secret").to_owned()
}

impl Connection {
    /// The source's connection string, from `environment` (the target's) or from the file's own values.
    ///
    /// # Errors
    /// [`LocateError`] names the variable; its value is never shown.
    pub fn locate(&self, environment: &Environment) -> Result<SourceConnection, LocateError> {
        self.locate_in(&Values::of(environment))
    }

    /// The same where more than an environment is known.
    ///
    /// # Errors
    /// As [`Connection::locate`].
    pub fn locate_in(&self, values: &Values<'_>) -> Result<SourceConnection, LocateError> {
        match self {
            Self::Url(origins) => {
                let first = origins.first().expect("a url names at least one origin");
                let value = value_of(first, values)?;
                let url = PgUrl::parse(&value).map_err(|source| LocateError::NotAUrl {
                    variable: name_of(first),
                    source,
                })?;
                complete(url, vec![name_of(first)], values)
            }
            Self::Params(params) => locate_params(params, values),
        }
    }
}

/// The source with what its connection leaves out, from where the target's own client has it (libpq, section 34.15). The
/// program's variables stay as they are: it completes them itself.
fn complete(
    mut url: PgUrl,
    variables: Vec<String>,
    values: &Values<'_>,
) -> Result<SourceConnection, LocateError> {
    let variable = |name: &str| read(name, VariableKind::Any, values).ok();
    if !url.names_host() {
        if url.param("service").is_some() || variable("PGSERVICE").is_some() {
            return Err(LocateError::Service { variables });
        }
        let Some(hosts) = variable("PGHOST") else {
            return Err(LocateError::NoHost { variables });
        };
        url = url.with_param("host", &hosts);
    }
    let left_out = [
        ("port", "PGPORT", !url.names_port()),
        ("user", "PGUSER", url.user().is_none()),
        ("password", "PGPASSWORD", url.password().is_none()),
        ("dbname", "PGDATABASE", url.param("dbname").is_none()),
    ];
    for (param, name, is_left_out) in left_out {
        if let (true, Some(value)) = (is_left_out, variable(name)) {
            url = url.with_param(param, &value);
        }
    }
    // The ports are another client's text, and nothing else has looked at them.
    match PgUrl::parse(&url.reveal()) {
        Ok(url) if url.user().is_none() => Err(LocateError::NoUser { variables }),
        Ok(url) => Ok(SourceConnection { url, variables }),
        Err(source) => Err(LocateError::NotAConnection { variables, source }),
    }
}

/// The first value of each param.
pub(super) fn read_params(
    params: &BTreeMap<Param, Vec<Origin>>,
    values: &Values<'_>,
) -> Result<BTreeMap<Param, String>, LocateError> {
    params
        .iter()
        .map(|(param, origins)| {
            if matches!(param, Param::Other(_)) {
                return Err(LocateError::UnknownParam {
                    param: param.clone(),
                });
            }
            let first = origins.first().expect("a param names at least one origin");
            Ok((param.clone(), value_of(first, values)?))
        })
        .collect()
}

fn locate_params(
    params: &BTreeMap<Param, Vec<Origin>>,
    known: &Values<'_>,
) -> Result<SourceConnection, LocateError> {
    let mut values = read_params(params, known)?;
    if !values.contains_key(&Param::Port)
        && let Some(both) = values.get(&Param::Host).cloned()
        && let Some((host, port)) = split_host_port(&both)
    {
        values.insert(Param::Host, host.to_owned());
        values.insert(Param::Port, port.to_owned());
    }
    let user_is_apart = read("PGUSER", VariableKind::Any, known).is_ok();
    for (param, is_apart) in [
        (Param::Host, false),
        (Param::Port, is_in_url(params, known)),
        (Param::User, user_is_apart),
    ] {
        if !values.contains_key(&param) && !is_apart {
            return Err(LocateError::NoParam { param });
        }
    }
    let variables: Vec<String> = params
        .values()
        .filter_map(|origins| origins.first().map(name_of))
        .collect();
    let pairs: Vec<String> = values
        .iter()
        .map(|(param, value)| format!("{}={}", libpq_key(param), quote(value)))
        .collect();
    match PgUrl::parse(&pairs.join(" ")) {
        Ok(url) => complete(url, variables, known),
        Err(source) => Err(LocateError::NotAConnection { variables, source }),
    }
}

/// Whether the host is a part of a URL, which may leave the port to its clients' default.
fn is_in_url(params: &BTreeMap<Param, Vec<Origin>>, known: &Values<'_>) -> bool {
    let mut hosts = params.get(&Param::Host).into_iter().flatten();
    hosts.all(|origin| match origin {
        Origin::Pattern { name, .. } => {
            let whole = read(name, VariableKind::Any, known);
            whole.is_ok_and(|whole| PgUrl::parse(&whole).is_ok_and(|url| !url.names_port()))
        }
        Origin::Variable { .. } | Origin::Secret { .. } | Origin::GcpSecretManager { .. } => false,
    })
}

/// The keyword of a connection string (PostgreSQL documentation, section 34.1.2).
fn libpq_key(param: &Param) -> &str {
    match param {
        Param::Database => "dbname",
        Param::Host
        | Param::Port
        | Param::User
        | Param::Password
        | Param::SslMode
        | Param::Other(_) => param.as_str(),
    }
}

/// Quotes a value as section 34.1.1.1 says.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests;
