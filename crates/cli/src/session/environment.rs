//! The program's environment: the target's over the caller's, by the file's rules, the branches' variables last.

use std::collections::BTreeMap;
use std::path::Path;

use config::{
    Connection, DbBranch, Destination, EnvFileError, EnvRules, Environment, RewriteError,
};
use model::pg_url::Address;
use model::{BranchId, ExitCode, Secret};

use super::branches::ReadyBranch;
use super::prepare::Plan;
use crate::error::CommandError;

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
enum EnvironmentError {
    /// The file's own file of variables.
    #[error("cannot make the program's environment")]
    EnvFile(#[source] EnvFileError),
    /// A variable that cannot be led to its branch.
    #[error("cannot lead {variables} to branch {id}")]
    Rewrite {
        /// The variables of the connection.
        variables: String,
        /// The branch.
        id: String,
        /// Why.
        #[source]
        source: RewriteError,
    },
}

/// Makes the environment that the program gets, and no other.
///
/// # Errors
/// Where a variable would still lead to the source.
pub(super) fn make(plan: &Plan, branches: &[ReadyBranch]) -> Result<Environment, CommandError> {
    let mut variables: BTreeMap<String, Secret> = BTreeMap::new();
    for branch in branches {
        variables.extend(lead(plan, branch)?);
    }
    let rules = &plan.config.env;
    let env_file = read_env_file(rules, &plan.directory, &plan.caller)?;
    let empty = Environment::new();
    let target = plan.target_environment.as_ref().unwrap_or(&empty);
    Ok(rules.apply(target, env_file.as_ref(), &plan.caller, &variables))
}

/// What a program without target and branches would get, which is where its connections are found.
///
/// # Errors
/// When the file's own file of variables cannot be read.
pub(super) fn alone(
    rules: &EnvRules,
    directory: &Path,
    caller: &Environment,
) -> Result<Environment, CommandError> {
    let env_file = read_env_file(rules, directory, caller)?;
    let (target, branches) = (Environment::new(), BTreeMap::new());
    Ok(rules.apply(&target, env_file.as_ref(), caller, &branches))
}

fn read_env_file(
    rules: &EnvRules,
    directory: &Path,
    caller: &Environment,
) -> Result<Option<Environment>, CommandError> {
    let read = rules.read_env_file(directory, caller);
    read.map_err(|error| CommandError::new(ExitCode::Usage, EnvironmentError::EnvFile(error)))
}

/// The variables of one branch's connection, with its address in them.
fn lead(plan: &Plan, branch: &ReadyBranch) -> Result<BTreeMap<String, Secret>, CommandError> {
    let wanted = &branch.planned.wanted;
    let address = Address {
        host: branch.connection.host.clone(),
        port: branch.connection.port,
    };
    let destination = Destination {
        address: &address,
        database: Some(&branch.connection.database),
        query_params: &wanted.query_params,
    };
    let rewritten = wanted
        .connection
        .rewrite(&plan.source_environment, &destination);
    rewritten.map_err(|source| refuse(&wanted.connection, &wanted.id, source))
}

/// Refuses a connection that no branch can be put into, while there is none yet.
pub(super) fn check(wanted: &DbBranch, source: &Environment) -> Result<(), CommandError> {
    let checked = wanted.connection.check(source, &wanted.query_params);
    checked.map_err(|source| refuse(&wanted.connection, &wanted.id, source))
}

fn refuse(connection: &Connection, id: &BranchId, source: RewriteError) -> CommandError {
    let hint = source.hint();
    let failure = EnvironmentError::Rewrite {
        variables: connection.variables().join(", "),
        id: id.to_string(),
        source,
    };
    let error = CommandError::new(ExitCode::Branch, failure);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
