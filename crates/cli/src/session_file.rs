//! A session's configuration file as commands read it, and the context that it means.
//!
//! Owns that every command reads it alike: without a file the environment's variables still count, and what makes a
//! branch works in the same cluster as what deletes it. Leaves the file's grammar to `config`, contexts to `contexts`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Config, Surroundings};
use model::ExitCode;

use crate::contexts::{self, ContextChoice, ContextReason, KubeconfigFiles};
use crate::diagnostics;
use crate::error::CommandError;
use crate::settings::{Environment, Settings};

/// What stands for the file in messages where there is none.
pub(crate) const NO_FILE: &str = "(defaults)";

/// The working directory is gone.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell which directory the program is to run in")]
struct DirectoryError;

/// What a configuration file may refer to in this run.
///
/// # Errors
/// When the working directory is gone.
pub(crate) fn surroundings(settings: &Settings) -> Result<Surroundings, CommandError> {
    let directory = settings
        .directory
        .clone()
        .ok_or_else(|| CommandError::new(ExitCode::Usage, DirectoryError))?;
    let random_key = format!("{:010x}", rand::random::<u64>() >> 24);
    Ok(Surroundings {
        environment: Arc::new(settings.environment.variables().clone()),
        git_branch: config::git_branch(&directory),
        key: settings.session.key.clone(),
        ..Surroundings::new(directory, random_key)
    })
}

/// Reads the file that `named` or the environment names; without one, what it would say if it were empty.
///
/// # Errors
/// Exit code 2 for what cannot be read or says something wrong.
pub(crate) fn read(
    named: Option<&Path>,
    settings: &Settings,
    surroundings: &Surroundings,
) -> Result<Config, CommandError> {
    match named.or(settings.session.config_file.as_deref()) {
        Some(file) => {
            config::read(file, surroundings).map_err(|error| diagnostics::rejection(file, error))
        }
        None => {
            let name = Path::new(NO_FILE);
            config::read_text(name, "{}", surroundings)
                .map_err(|error| diagnostics::rejection(name, error.into()))
        }
    }
}

/// The file of a command that asks for its namespace and context alone: it need not name a whole target.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_place(
    named: Option<&PathBuf>,
    settings: &Settings,
) -> Result<Config, CommandError> {
    let mut surroundings = surroundings(settings)?;
    surroundings.is_target_final = false;
    read(named.map(PathBuf::as_path), settings, &surroundings)
}

/// The context of a command with `--context` and a file.
///
/// # Errors
/// Exit code 3 for a context that is not there, and a kubeconfig that cannot be read.
pub(crate) fn choose_context(
    flag: Option<&str>,
    config: &Config,
    settings: &Settings,
) -> Result<ContextChoice, CommandError> {
    let kubeconfig = match &config.kubeconfig {
        Some(path) => {
            let path = expand(path, &settings.environment);
            // A relative one with the working directory gone fails where it is read.
            let directory = settings.directory.clone().unwrap_or_default();
            KubeconfigFiles::named(vec![directory.join(path)])
        }
        None => settings.kubeconfig.clone(),
    };
    // The reader of files has put the variable's over the file's already.
    let reason = match settings.environment.get("MIRRORD_KUBE_CONTEXT") {
        Some(_) => ContextReason::Variable,
        None => ContextReason::File,
    };
    let named = config.kube_context.as_deref().map(|name| (name, reason));
    let pod = &settings.pod_account;
    Ok(contexts::choose_context(flag, named, &kubeconfig, pod)?)
}

/// A path with a leading `~` and with `$NAME` and `${NAME}` as shells have them; a variable that is not set stays as
/// written, so that the message about the path that is not there shows it.
fn expand(path: &str, environment: &Environment) -> String {
    let value = |name: &str| environment.get(name).and_then(|value| value.to_str());
    let (mut expanded, mut rest) = match (path.strip_prefix('~'), value("HOME")) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            (home.to_owned(), rest)
        }
        _ => (String::new(), path),
    };
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, behind) = variable(after);
        match value(name) {
            Some(value) => {
                expanded.push_str(value);
                rest = behind;
            }
            None => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded + rest
}

/// The name at the beginning of what follows a `$`, and what comes after it.
fn variable(text: &str) -> (&str, &str) {
    if let Some((name, behind)) = text.strip_prefix('{').and_then(|it| it.split_once('}')) {
        return (name, behind);
    }
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let end = text.find(|char| !is_part(char)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn paths_are_expanded_as_shells_do_it() {
        let environment: Environment = [("HOME", "/home/ada"), ("STAGE", "test")]
            .into_iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect();
        for (written, expected) in [
            ("~/.kube/other", "/home/ada/.kube/other"),
            ("~", "/home/ada"),
            ("~ada/x", "~ada/x"),
            ("/a/~/b", "/a/~/b"),
            ("$HOME/$STAGE.yaml", "/home/ada/test.yaml"),
            ("/k/${STAGE}x", "/k/testx"),
            ("/k/$MISSING/x", "/k/$MISSING/x"),
            ("/k/${MISSING", "/k/${MISSING"),
            ("/k/a$", "/k/a$"),
            ("kube", "kube"),
        ] {
            assert_eq!(expand(written, &environment), expected, "{written}");
        }
        assert_eq!(expand("~/x", &Environment::default()), "~/x");
    }
}
