//! Which branches the arguments mean: ids or resource names, within a namespace or all. Pure.

use model::engine_api::BranchView;
use model::{ExitCode, Namespace};

use crate::error::CommandError;

/// How alike a known name must be to be suggested (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.8;

/// Known names that an error lists at most.
const KNOWN_MAX: usize = 20;

/// Where names count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// In one namespace.
    Namespace(Namespace),
    /// Everywhere.
    All,
}

impl Scope {
    /// Whether `branch` lies within.
    pub(super) fn holds(&self, branch: &BranchView) -> bool {
        match self {
            Self::Namespace(namespace) => branch.namespace == *namespace,
            Self::All => true,
        }
    }

    /// The one namespace, where it is one.
    pub(super) fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Namespace(namespace) => Some(namespace),
            Self::All => None,
        }
    }

    /// The scope in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Namespace(namespace) => format!("namespace {namespace}"),
            Self::All => "any namespace".to_owned(),
        }
    }
}

/// Why arguments mean no branches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SelectError {
    /// No branch has such a name.
    #[error("no branch {} in {scope}: {}", quoted(.unknown), existing(.known))]
    Unknown {
        /// The names that nobody has.
        unknown: Vec<String>,
        /// Where was looked.
        scope: String,
        /// What is there.
        known: Vec<String>,
        /// What could have been meant.
        advice: Option<String>,
    },
    /// Branches of several namespaces have this id.
    #[error("{id:?} is the id of {} branches: {}", .found.len(), .found.join(", "))]
    Ambiguous {
        /// The id.
        id: String,
        /// The branches, with their namespaces.
        found: Vec<String>,
    },
}

impl From<SelectError> for CommandError {
    fn from(error: SelectError) -> Self {
        let hint = match &error {
            SelectError::Unknown { advice, .. } => advice.clone(),
            SelectError::Ambiguous { .. } => {
                Some("name the namespace with -n, or use the name that begins with pg-".to_owned())
            }
        };
        let failure = Self::new(ExitCode::Internal, error);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

fn quoted(names: &[String]) -> String {
    let quoted = names.iter().map(|name| format!("{name:?}"));
    quoted.collect::<Vec<_>>().join(", ")
}

fn existing(known: &[String]) -> String {
    match known.len() {
        0 => "there is none".to_owned(),
        n if n > KNOWN_MAX => format!(
            "there are {} and {} more",
            known[..KNOWN_MAX].join(", "),
            n - KNOWN_MAX
        ),
        1 => format!("there is {}", known[0]),
        _ => format!("there are {}", known.join(", ")),
    }
}

/// The branches of `scope`.
pub(super) fn within<'a>(scope: &Scope, branches: &'a [BranchView]) -> Vec<&'a BranchView> {
    branches
        .iter()
        .filter(|branch| scope.holds(branch))
        .collect()
}

/// The branches that `names` mean, each once, in the order of the names.
///
/// # Errors
/// [`SelectError`] names every unknown name at once; then nothing is to be done to the known ones.
pub(super) fn select<'a>(
    names: &[String],
    scope: &Scope,
    branches: &'a [BranchView],
) -> Result<Vec<&'a BranchView>, SelectError> {
    let inside = within(scope, branches);
    let mut selected: Vec<&BranchView> = Vec::with_capacity(names.len());
    let mut unknown = Vec::new();
    for name in names {
        let is_meant =
            |branch: &&&BranchView| branch.id.as_str() == name || branch.name.as_str() == name;
        let found: Vec<_> = inside.iter().filter(is_meant).copied().collect();
        match found.as_slice() {
            [] => unknown.push(name.clone()),
            [branch] if selected.iter().any(|other| other.name == branch.name) => {}
            [branch] => selected.push(branch),
            [..] => {
                let described = |branch: &&BranchView| {
                    format!("{} (namespace {})", branch.name, branch.namespace)
                };
                return Err(SelectError::Ambiguous {
                    id: name.clone(),
                    found: found.iter().map(described).collect(),
                });
            }
        }
    }
    if unknown.is_empty() {
        return Ok(selected);
    }
    Err(SelectError::Unknown {
        advice: advise(&unknown, scope, &inside, branches),
        scope: scope.describe(),
        known: inside.iter().map(|branch| branch.id.to_string()).collect(),
        unknown,
    })
}

/// The one branch that `name` means.
///
/// # Errors
/// As [`select`].
pub(super) fn select_one<'a>(
    name: &str,
    scope: &Scope,
    branches: &'a [BranchView],
) -> Result<&'a BranchView, SelectError> {
    let selected = select(&[name.to_owned()], scope, branches)?;
    Ok(selected[0])
}

fn advise(
    unknown: &[String],
    scope: &Scope,
    inside: &[&BranchView],
    branches: &[BranchView],
) -> Option<String> {
    let elsewhere = branches.iter().find(|branch| {
        let is_named = |name: &String| branch.id.as_str() == name || branch.name.as_str() == name;
        !scope.holds(branch) && unknown.iter().any(is_named)
    });
    if let Some(branch) = elsewhere {
        let (id, namespace) = (&branch.id, &branch.namespace);
        return Some(format!(
            "namespace {namespace} has a branch {id}: add -n {namespace}"
        ));
    }
    let likeness = |branch: &&&BranchView| {
        let pairs = unknown
            .iter()
            .map(|name| strsim::jaro_winkler(name, branch.id.as_str()));
        pairs.fold(0.0, f64::max)
    };
    let nearest = inside
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) >= LIKENESS_MIN).then(|| format!("did you mean {}?", nearest.id))
}

#[cfg(test)]
mod tests;
