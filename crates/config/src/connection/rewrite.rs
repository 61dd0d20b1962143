//! Leading the process to the branch: the variables of a connection with the branch's address in them.
//!
//! Owns what changes: host and port, the database where it differs, demands for proofs that only the source could meet, and
//! `query_params`. Every other byte of a value stays. Anything that would leave a variable pointing elsewhere is an error.

use std::collections::BTreeMap;
use std::ops::Range;

use model::pg_url::{Address, PgUrlError, asks_for_proof, split_host_port};
use model::{PgUrl, Secret};

use super::locate::{LocateError, Values, name_of, read, read_params, value_of};
use super::{Connection, Origin, Param, VariableKind};
use crate::environment::Environment;

/// Where the process is to connect instead of the source.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The branch's address.
    pub address: &'a Address,
    /// The branch's database, where the variables shall name another than they do.
    pub database: Option<&'a str>,
    /// Further parameters for URLs; of params `sslmode` alone is one.
    pub query_params: &'a BTreeMap<String, String>,
}

/// Why the variables cannot be led to the branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// A value cannot be found.
    #[error("cannot find a value of the connection")]
    Locate(#[from] LocateError),
    /// A further variable holds no connection string.
    #[error("the value of {variable} is no connection string of PostgreSQL")]
    NotAUrl {
        /// The variable.
        variable: String,
        /// Why.
        #[source]
        source: PgUrlError,
    },
    /// A further variable leads to a database that is not branched.
    #[error("{variable} names another database than {first}: only one database is branched")]
    OtherDatabase {
        /// The variable.
        variable: String,
        /// The one that the branch is made from.
        first: String,
    },
    /// A value whose variable nobody named has to change.
    #[error("{what} leads to the source, and no variable is named for it")]
    NoVariable {
        /// The Secret, by name, or the param.
        what: String,
    },
    /// A variable is a connection string of its own, and the params do not lead the whole of it.
    #[error(
        "{variable} is a connection string, and with the branch's values in its parts it still leads elsewhere"
    )]
    Elsewhere {
        /// The variable.
        variable: String,
    },
    /// Two parts of one value overlap.
    #[error("two params are read from the same part of {variable}")]
    Overlap {
        /// The variable.
        variable: String,
    },
}

impl RewriteError {
    /// What the file's author can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locate(error) => error.hint(),
            Self::NotAUrl { .. } => None,
            Self::OtherDatabase { variable, .. } => Some(format!(
                "two databases are two entries of \"db_branches\": take {variable} out of this one"
            )),
            Self::NoVariable { .. } => {
                Some("\"env_var_name\" names the variable in which the process has it".to_owned())
            }
            Self::Elsewhere { variable } => Some(format!(
                "\"url\": \"{variable}\" leads all of it to the branch"
            )),
            Self::Overlap { .. } => {
                Some("a \"value_pattern\" for each param finds a part of its own".to_owned())
            }
        }
    }
}

impl Connection {
    /// Whether the variables can be led to a branch at all, before there is one.
    ///
    /// # Errors
    /// [`RewriteError`], as [`Connection::rewrite`] would have it later.
    pub fn check(
        &self,
        environment: &Environment,
        query_params: &BTreeMap<String, String>,
    ) -> Result<(), RewriteError> {
        let anywhere = Address {
            host: "127.0.0.1".to_owned(),
            port: 1,
        };
        let branch = Destination {
            address: &anywhere,
            database: None,
            query_params,
        };
        self.rewrite(environment, &branch).map(drop)
    }

    /// The variables of this connection as the process must have them to reach the branch.
    ///
    /// # Errors
    /// [`RewriteError`] names the variable that would still lead elsewhere.
    pub fn rewrite(
        &self,
        environment: &Environment,
        branch: &Destination<'_>,
    ) -> Result<BTreeMap<String, Secret>, RewriteError> {
        self.rewrite_in(&Values::of(environment), branch)
    }

    /// The same where more than an environment is known.
    ///
    /// # Errors
    /// As [`Connection::rewrite`].
    pub fn rewrite_in(
        &self,
        values: &Values<'_>,
        branch: &Destination<'_>,
    ) -> Result<BTreeMap<String, Secret>, RewriteError> {
        match self {
            Self::Url(origins) => rewrite_urls(origins, values, branch),
            Self::Params(params) => rewrite_params(params, values, branch),
        }
    }
}

fn lead_to(url: &PgUrl, branch: &Destination<'_>) -> PgUrl {
    let mut led = url.without_proofs().with_address(branch.address);
    if let Some(database) = branch
        .database
        .filter(|name| url.database().as_deref() != Some(*name))
    {
        led = led.with_database(database);
    }
    for (key, value) in branch.query_params {
        led = led.with_param(key, value);
    }
    led
}

/// Each variable keeps its own user, options and spelling; one that the target does not have gets the first's.
fn rewrite_urls(
    origins: &[Origin],
    values: &Values<'_>,
    branch: &Destination<'_>,
) -> Result<BTreeMap<String, Secret>, RewriteError> {
    let mut variables = BTreeMap::new();
    let mut first: Option<(String, PgUrl)> = None;
    for origin in origins {
        let value = match (value_of(origin, values), &first) {
            (Ok(value), _) => value,
            (Err(LocateError::Missing { .. } | LocateError::Empty { .. }), Some((_, url))) => {
                url.reveal()
            }
            (Err(error), _) => return Err(error.into()),
        };
        let url = PgUrl::parse(&value).map_err(|source| RewriteError::NotAUrl {
            variable: name_of(origin),
            source,
        })?;
        let (first_name, first_url) = first.get_or_insert_with(|| (name_of(origin), url.clone()));
        if first_url.database() != url.database() {
            return Err(RewriteError::OtherDatabase {
                variable: name_of(origin),
                first: first_name.clone(),
            });
        }
        let name = origin.variable().ok_or_else(|| RewriteError::NoVariable {
            what: "the connection string of the Secret".to_owned(),
        })?;
        variables.insert(name.to_owned(), Secret::new(lead_to(&url, branch).reveal()));
    }
    Ok(variables)
}

/// What happens to one variable.
#[derive(Default)]
struct Edits {
    /// The whole value.
    whole: Option<String>,
    /// Parts of the value that it has.
    parts: Vec<(Range<usize>, String)>,
}

fn rewrite_params(
    params: &BTreeMap<Param, Vec<Origin>>,
    values: &Values<'_>,
    branch: &Destination<'_>,
) -> Result<BTreeMap<String, Secret>, RewriteError> {
    let source = read_params(params, values)?;
    let mut edits: BTreeMap<&str, Edits> = BTreeMap::new();
    for (param, origins) in params {
        let wanted = wanted_value(param, &source, branch);
        for origin in origins {
            match (origin, origin.variable()) {
                (Origin::Pattern { name, pattern }, _) => {
                    let value = read(name, VariableKind::Any, values)?;
                    let range = pattern.find(&value).ok_or_else(|| LocateError::NoMatch {
                        variable: name.clone(),
                        pattern: pattern.as_str().to_owned(),
                    })?;
                    let is_host_alone = *param == Param::Host && !is_port_in(name, params);
                    let wanted = if is_host_alone {
                        with_port_if_taken(&value, &range, &wanted, branch.address)
                    } else {
                        wanted.clone()
                    };
                    let text = bracket_if_needed(&value, &range, &wanted);
                    edits.entry(name).or_default().parts.push((range, text));
                }
                (_, Some(name)) => {
                    let edit = edits.entry(name).or_default();
                    if edit.whole.as_ref().is_some_and(|whole| *whole != wanted) {
                        return Err(RewriteError::Overlap {
                            variable: name.to_owned(),
                        });
                    }
                    edit.whole = Some(wanted.clone());
                }
                // Who logs in, and how, is the same on the branch; where it is, is not.
                (_, None) if source.get(param) == Some(&wanted) => {}
                (_, None) => {
                    return Err(RewriteError::NoVariable {
                        what: format!("the param {:?}", param.as_str()),
                    });
                }
            }
        }
    }
    edits
        .into_iter()
        .map(|(name, edit)| {
            let value = apply_edits(name, edit, values)?;
            // The program may take it whole, whatever the params take of it.
            let is_elsewhere =
                |url: PgUrl| url.names_host() && url.addresses() != [branch.address.clone()];
            if PgUrl::parse(&value).is_ok_and(is_elsewhere) {
                return Err(RewriteError::Elsewhere {
                    variable: name.to_owned(),
                });
            }
            Ok((name.to_owned(), Secret::new(value)))
        })
        .collect()
}

/// Whether a pattern finds the port in the value of `variable`.
fn is_port_in(variable: &str, params: &BTreeMap<Param, Vec<Origin>>) -> bool {
    let mut ports = params.get(&Param::Port).into_iter().flatten();
    ports.any(|origin| matches!(origin, Origin::Pattern { name, .. } if name == variable))
}

/// The branch's host for a place in `value`, with its port where that is the host of a URL that names none.
fn with_port_if_taken(value: &str, range: &Range<usize>, host: &str, address: &Address) -> String {
    let is_whole_host = value[..range.start].ends_with(['/', '@'])
        && (range.end == value.len() || value[range.end..].starts_with(['/', '?']));
    match PgUrl::parse(value) {
        Ok(url) if is_whole_host && !url.names_port() => address.to_string(),
        Ok(_) | Err(_) => host.to_owned(),
    }
}

/// What a param's variables shall say: the branch's address, the `sslmode` that was asked for, and of the rest what the
/// source's first one says.
fn wanted_value(
    param: &Param,
    source: &BTreeMap<Param, String>,
    branch: &Destination<'_>,
) -> String {
    let own = source.get(param).cloned().unwrap_or_default();
    match param {
        Param::Host => {
            let holds_port = !source.contains_key(&Param::Port) && split_host_port(&own).is_some();
            if holds_port {
                branch.address.to_string()
            } else {
                branch.address.host.clone()
            }
        }
        Param::Port => branch.address.port.to_string(),
        Param::Database => branch.database.map_or(own, str::to_owned),
        Param::SslMode => match branch.query_params.get("sslmode") {
            Some(asked) => asked.clone(),
            // As `PgUrl::without_proofs` has it.
            None if asks_for_proof(&own) => "disable".to_owned(),
            None => own,
        },
        Param::User | Param::Password | Param::Other(_) => own,
    }
}

/// An IPv6 address within a larger text stands in brackets (RFC 3986 section 3.2.2).
fn bracket_if_needed(value: &str, range: &Range<usize>, wanted: &str) -> String {
    let is_bare_v6 = wanted.parse::<std::net::Ipv6Addr>().is_ok();
    if is_bare_v6 && !value[..range.start].ends_with('[') && *range != (0..value.len()) {
        format!("[{wanted}]")
    } else {
        wanted.to_owned()
    }
}

fn apply_edits(name: &str, edit: Edits, values: &Values<'_>) -> Result<String, RewriteError> {
    let overlap = || RewriteError::Overlap {
        variable: name.to_owned(),
    };
    let Edits { whole, mut parts } = edit;
    if let Some(whole) = whole {
        return if parts.is_empty() {
            Ok(whole)
        } else {
            Err(overlap())
        };
    }
    let mut value = read(name, VariableKind::Any, values)?;
    parts.sort_by_key(|(range, _)| (range.start, range.end));
    parts.dedup();
    if parts.windows(2).any(|pair| pair[0].0.end > pair[1].0.start) {
        return Err(overlap());
    }
    // From the end, so that earlier places stay where they are.
    for (range, text) in parts.into_iter().rev() {
        value.replace_range(range, &text);
    }
    Ok(value)
}
