//! The proof that a process will reach its branch: a login with its own final environment, answered by the branch's
//! random identity. Nothing runs without it.

use std::ffi::OsStr;
use std::time::Duration;

use config::{Connection, Environment, LocateError, Origin};
use model::PgUrl;
use model::pg_url::TlsDemand;
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// How long a login may take: the door is on this machine and its server runs.
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(15);

/// Parameters of TLS, and the variables by which libpq completes them (section 34.15).
const COMPLETING: [(&str, &str); 4] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
];

/// Variables by which libpq goes elsewhere than a connection string says.
const OVERRIDING: [&str; 2] = ["PGSERVICE", "PGHOSTADDR"];

/// The parameter that names a service.
const SERVICE: &str = "service";

/// Why a variable is not proven to lead to the branch. Never shows its value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    /// The final environment does not hold the connection.
    #[error("cannot read {variables} back from the program's environment")]
    Locate {
        /// The variables.
        variables: String,
        /// Why.
        #[source]
        source: LocateError,
    },
    /// The connection demands a certificate that nobody has for a branch.
    #[error(
        "{variables} demands to know who answers ({demand}), and a branch answers under a certificate of the session's own"
    )]
    Tls {
        /// The variables.
        variables: String,
        /// The parameter.
        demand: String,
    },
    /// What libpq takes before the variables leads elsewhere.
    #[error(
        "{setting} is set for the program, and libpq takes an address from it in place of the one of {variables}"
    )]
    Overridden {
        /// The variable or parameter.
        setting: &'static str,
        /// The variables.
        variables: String,
    },
    /// The login failed.
    #[error("cannot log in to branch {id} by {variables}")]
    Login {
        /// The branch.
        id: String,
        /// The variables.
        variables: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// There is no password to log in with.
    #[error("{variables} has no password, and branch {id} asks for one")]
    NoPassword {
        /// The branch.
        id: String,
        /// The variables.
        variables: String,
    },
    /// The login took too long.
    #[error("cannot log in to branch {id} by {variables} within {} s", LOGIN_WAIT_MAX.as_secs())]
    TimedOut {
        /// The branch.
        id: String,
        /// The variables.
        variables: String,
    },
    /// Another server answered.
    #[error("{variables} does not lead to branch {id}: another server answered")]
    Elsewhere {
        /// The branch.
        id: String,
        /// The variables.
        variables: String,
    },
}

impl ProofError {
    /// What can be done.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Overridden {
                setting: SERVICE, ..
            } => Some("write what the service says into the connection itself"),
            Self::Overridden { .. } => Some(
                "\"unset\": [\"PGSERVICE\", \"PGHOSTADDR\"] of \"env\" in the configuration file removes it",
            ),
            Self::Tls { demand, .. } if demand.starts_with("PG") => Some(
                "\"override\": {\"PGSSLMODE\": \"require\"} of \"env\" in the configuration file encrypts without asking who \
                 answers, where \"unset\" removes PGSSLROOTCERT and PGCHANNELBINDING",
            ),
            Self::Tls { .. } => Some(
                "\"query_params\": {\"sslmode\": \"require\"} of the branch in the configuration file encrypts without asking who \
                 answers: branches are on this machine",
            ),
            Self::Login { source, .. } if is_refused_login(source) => Some(
                "the branch has the source's own roles; one whose password could not be read cannot log in: \
                 `bough db-branches status ID` names them",
            ),
            Self::NoPassword { .. } => Some(
                "a branch trusts nobody, though its source may: give the source's role a password, and name it in the URL or in \
                 PGPASSWORD",
            ),
            Self::Login { .. } | Self::TimedOut { .. } => {
                Some("`bough engine logs` shows what the engine did")
            }
            Self::Locate { .. } | Self::Elsewhere { .. } => None,
        }
    }
}

/// Whether the server answered, and did not take the user or the password.
fn is_refused_login(error: &tokio_postgres::Error) -> bool {
    let refusals = [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
    ];
    error.code().is_some_and(|code| refusals.contains(code))
}

/// Whether the client had nothing to answer the server's question for a password with. Its own errors have no public
/// kind, so that their fixed texts tell them apart.
fn lacks_password(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.to_string() == "password missing")
}

/// Logs in by every variable of `connection` as `environment` has them; each must end at the server that answers
/// `identity`. Tells whether any of them insists on TLS, which the session's fence then speaks for the branch's door.
///
/// # Errors
/// [`ProofError`] for the first that does not.
pub(crate) async fn prove(
    id: &str,
    identity: &str,
    connection: &Connection,
    environment: &Environment,
) -> Result<bool, ProofError> {
    let mut needs_tls = false;
    for single in single_connections(connection) {
        let variables = single.variables().join(", ");
        let found = single
            .locate(environment)
            .map_err(|source| ProofError::Locate {
                variables: variables.clone(),
                source,
            })?;
        if let Some(setting) = overriding(&found.url, &single, environment) {
            return Err(ProofError::Overridden { setting, variables });
        }
        match tls_demand(&found.url, environment) {
            Some(TlsDemand::Verification { key, value }) => {
                let demand = format!("{key}={value}");
                return Err(ProofError::Tls { variables, demand });
            }
            Some(TlsDemand::Encryption) => needs_tls = true,
            None => {}
        }
        let answer = tokio::time::timeout(LOGIN_WAIT_MAX, ask_identity(&found.url, environment));
        let id = id.to_owned();
        match answer.await {
            Err(_) => return Err(ProofError::TimedOut { id, variables }),
            Ok(Err(source)) if lacks_password(&source) => {
                return Err(ProofError::NoPassword { id, variables });
            }
            Ok(Err(source)) => {
                return Err(ProofError::Login {
                    id,
                    variables,
                    source,
                });
            }
            // Any server that has no name answers with an empty one.
            Ok(Ok(answer)) if identity.is_empty() || answer.as_deref() != Some(identity) => {
                return Err(ProofError::Elsewhere { id, variables });
            }
            Ok(Ok(_)) => {}
        }
    }
    Ok(needs_tls)
}

/// A connection for each way through the lists of `connection`, so that every variable is in one of them. The values
/// are those of the environment: a literal of the file is what it was, not what the process gets.
fn single_connections(connection: &Connection) -> Vec<Connection> {
    let read_back = |origin: &Origin| match origin {
        Origin::Variable {
            name,
            kind,
            container,
            literal: _,
        } => Origin::Variable {
            name: name.clone(),
            kind: *kind,
            container: container.clone(),
            literal: None,
        },
        Origin::Pattern { .. } | Origin::Secret { .. } | Origin::GcpSecretManager { .. } => {
            origin.clone()
        }
    };
    match connection {
        Connection::Url(origins) => origins
            .iter()
            .map(|origin| Connection::Url(vec![read_back(origin)]))
            .collect(),
        Connection::Params(params) => {
            let ways = params.values().map(Vec::len).max().unwrap_or(0);
            let way = |number: usize| {
                let chosen = params.iter().map(|(param, origins)| {
                    let origin = &origins[number.min(origins.len() - 1)];
                    (param.clone(), vec![read_back(origin)])
                });
                Connection::Params(chosen.collect())
            };
            (0..ways).map(way).collect()
        }
    }
}

/// What gives libpq an address that it takes before the connection's own, or beside it (libpq, sections 34.1.2 and 34.17).
fn overriding(
    url: &PgUrl,
    connection: &Connection,
    environment: &Environment,
) -> Option<&'static str> {
    if url.param(SERVICE).is_some() {
        return Some(SERVICE);
    }
    let led = connection.variables();
    OVERRIDING.into_iter().find(|name| {
        let value = environment.get(OsStr::new(name));
        value.is_some_and(|value| !value.is_empty()) && !led.contains(name)
    })
}

/// What, if anything, a connection demands of TLS: by itself, or by the variables that clients complete it with, which then
/// stand for their parameters.
fn tls_demand(url: &PgUrl, environment: &Environment) -> Option<TlsDemand> {
    let mut whole = url.clone();
    let mut completed = Vec::new();
    for (key, variable) in COMPLETING {
        if let (None, Some(value)) = (url.param(key), read(environment, variable)) {
            whole = whole.with_param(key, &value);
            completed.push((key, variable));
        }
    }
    Some(match whole.tls_demand()? {
        TlsDemand::Encryption => TlsDemand::Encryption,
        TlsDemand::Verification { key, value } => {
            let named = completed.into_iter().find(|(own, _)| *own == key);
            let key = named.map_or(key, |(_, variable)| variable);
            TlsDemand::Verification { key, value }
        }
    })
}

/// A variable that is set, not empty, and text.
fn read(environment: &Environment, name: &str) -> Option<String> {
    let value = environment.get(OsStr::new(name))?.to_str()?;
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

/// What the server at `url` answers to `SHOW cluster_name`. What the URL leaves out comes from `environment`, as
/// clients have it (libpq, section 34.15).
async fn ask_identity(
    url: &PgUrl,
    environment: &Environment,
) -> Result<Option<String>, tokio_postgres::Error> {
    let variable = |name: &str| read(environment, name);
    let address = url.address();
    let mut login = tokio_postgres::Config::new();
    login.host(&address.host).port(address.port);
    login.application_name("bough proof");
    let user = url.param("user").or_else(|| variable("PGUSER"));
    if let Some(user) = user.or_else(|| variable("USER")) {
        login.user(user);
    }
    let password = url.password().map(|secret| secret.reveal().to_owned());
    if let Some(password) = password.or_else(|| variable("PGPASSWORD")) {
        login.password(password);
    }
    if let Some(database) = url.param("dbname").or_else(|| variable("PGDATABASE")) {
        login.dbname(database);
    }
    if let Some(options) = url.param("options") {
        login.options(options);
    }
    let (client, connection) = login.connect(NoTls).await?;
    // Ends with the client.
    let driver = tokio::spawn(connection);
    let answer = client.simple_query("SHOW cluster_name").await;
    drop(client);
    driver.abort();
    let row_of = |message| {
        if let SimpleQueryMessage::Row(row) = message {
            row.get(0).map(str::to_owned)
        } else {
            None
        }
    };
    Ok(answer?.into_iter().find_map(row_of))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::Surroundings;

    use super::*;

    fn connection(json: &str) -> Connection {
        let text = format!(
            r#"{{"feature": {{"db_branches": [{{"id": "a", "type": "pg", "connection": {json}}}]}}}}"#
        );
        let surroundings = Surroundings::new("/", "key");
        let config = config::read_text(Path::new("x.json"), &text, &surroundings).unwrap();
        config.branches[0].connection.clone()
    }

    #[test]
    fn every_variable_is_in_one_of_the_ways() {
        let urls = connection(r#"{"url": ["A", "B"]}"#);
        let names = |connection: &Connection| {
            let ways = single_connections(connection);
            let names = ways.iter().map(|way| way.variables().join(" "));
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&urls), ["A", "B"]);
        let params = r#"{"params": {"host": ["H1", "H2"], "port": "P", "user": "U"}}"#;
        assert_eq!(names(&connection(params)), ["H1 P U", "H2 P U"]);
    }

    #[test]
    fn literals_are_read_back_from_the_environment() {
        let literal =
            r#"{"url": {"type": "env", "variable": "A", "value": "postgres://u@source/d"}}"#;
        let ways = single_connections(&connection(literal));
        let environment: Environment = [("A".into(), "postgres://u@127.0.0.1:4/d".into())]
            .into_iter()
            .collect();
        let found = ways[0].locate(&environment).unwrap();
        assert_eq!(found.url.address().port, 4);
    }

    fn set(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter();
        variables
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    #[test]
    fn demands_for_tls_are_seen_in_the_variables_that_complete_a_connection() {
        let verification = |key, value: &str| {
            let value = value.to_owned();
            Some(TlsDemand::Verification { key, value })
        };
        let encryption = || Some(TlsDemand::Encryption);
        for (url, name, value, expected) in [
            ("postgres://u@h/d", "PGSSLMODE", "require", encryption()),
            ("postgres://u@h/d", "PGSSLMODE", "", None),
            (
                "postgres://u@h/d?sslmode=disable",
                "PGSSLMODE",
                "require",
                None,
            ),
            (
                "postgres://u@h/d",
                "PGSSLMODE",
                "verify-full",
                verification("PGSSLMODE", "verify-full"),
            ),
            (
                "postgres://u@h/d?sslmode=require",
                "PGSSLMODE",
                "verify-full",
                encryption(),
            ),
            (
                "postgres://u@h/d?sslmode=require",
                "PGSSLROOTCERT",
                "/ca.pem",
                verification("PGSSLROOTCERT", "/ca.pem"),
            ),
            (
                "postgres://u@h/d",
                "PGCHANNELBINDING",
                "require",
                verification("PGCHANNELBINDING", "require"),
            ),
        ] {
            let demand = tls_demand(&PgUrl::parse(url).unwrap(), &set(&[(name, value)]));
            assert_eq!(demand, expected, "{url} {name}={value}");
        }
    }

    #[test]
    fn what_libpq_takes_before_a_connection_is_refused_by_name() {
        let url = connection(r#"{"url": "A"}"#);
        let address = connection(r#"{"params": {"host": "PGHOSTADDR", "port": "PGPORT"}}"#);
        let own = PgUrl::parse("postgres://u@127.0.0.1:4/d").unwrap();
        let found = |url: &PgUrl, connection: &Connection, variables: &[(&str, &str)]| {
            overriding(url, connection, &set(variables))
        };
        assert_eq!(found(&own, &url, &[("PGHOST", "db")]), None);
        assert_eq!(found(&own, &url, &[("PGSERVICE", "")]), None);
        assert_eq!(
            found(&own, &url, &[("PGSERVICE", "shop")]),
            Some("PGSERVICE")
        );
        let number = [("PGHOSTADDR", "127.0.0.1")];
        assert_eq!(found(&own, &url, &number), Some("PGHOSTADDR"));
        assert_eq!(found(&own, &address, &number), None);
        let service = PgUrl::parse("postgres://u@127.0.0.1:4/d?service=shop").unwrap();
        assert_eq!(found(&service, &url, &[]), Some("service"));
    }
}
