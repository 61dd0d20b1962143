//! The program's environment: the target's over the caller's, by the file's rules, the branches' variables last.

use std::collections::BTreeMap;

use config::{Destination, EnvFileError, Environment, RewriteError};
use model::pg_url::Address;
use model::{ExitCode, Secret};

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
    let env_file = rules
        .read_env_file(&plan.directory, &plan.caller)
        .map_err(|error| CommandError::new(ExitCode::Usage, EnvironmentError::EnvFile(error)))?;
    let empty = Environment::new();
    let target = plan.target_environment.as_ref().unwrap_or(&empty);
    Ok(rules.apply(target, env_file.as_ref(), &plan.caller, &variables))
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
        .rewrite(plan.source_environment(), &destination);
    rewritten.map_err(|source| {
        let failure = EnvironmentError::Rewrite {
            variables: wanted.connection.variables().join(", "),
            id: branch.view.id.to_string(),
            source,
        };
        CommandError::new(ExitCode::Branch, failure)
    })
}
