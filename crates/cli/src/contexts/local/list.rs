//! `local ls`: what is registered, and what became of it.

use std::path::Path;

use jiff::Timestamp;
use model::Namespace;
use serde::Serialize;

use super::registry::{Record, Registry, RegistryError, TargetNetwork};
use super::state::TargetState;

/// A target as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TargetReport {
    /// Its kind's word.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) name: String,
    /// Its container, where it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    /// Its namespace.
    pub(crate) namespace: Namespace,
    /// The pid of its process while it runs.
    pub(crate) pid: Option<i32>,
    /// What it is doing.
    #[serde(flatten)]
    pub(crate) state: TargetState,
    /// TCP ports that it is to listen on.
    pub(crate) ports: Vec<u16>,
    /// Its network.
    #[serde(flatten)]
    pub(crate) network: TargetNetwork,
    /// When it was started.
    pub(crate) started_at: Timestamp,
    /// When its end was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<Timestamp>,
    /// The file name of its program.
    pub(crate) program: String,
}

impl From<Record> for TargetReport {
    fn from(record: Record) -> Self {
        let state = record.state();
        Self {
            kind: record.target.kind.as_str(),
            name: record.target.name,
            container: record.target.container,
            namespace: record.namespace,
            pid: state.runs().then(|| record.process.identity().pid()),
            state,
            ports: record.ports,
            network: record.network,
            started_at: record.started_at,
            ended_at: record.end.map(|end| end.at),
            program: record.program,
        }
    }
}

/// Every target of `data_dir`, or those of one namespace, by namespace, kind and name.
///
/// # Errors
/// When a record cannot be read or understood.
pub(crate) fn list(
    data_dir: &Path,
    namespace: Option<&Namespace>,
) -> Result<Vec<TargetReport>, RegistryError> {
    let records = Registry::of(data_dir).all(namespace)?;
    Ok(records.into_iter().map(TargetReport::from).collect())
}
