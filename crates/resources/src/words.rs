//! Words of `model` as the schemas of resources have them.

use model::{CopyMode, IncomingMode};
use schemars::{Schema, SchemaGenerator, json_schema};

/// How much of a database is copied.
pub(crate) fn copy_mode(_generator: &mut SchemaGenerator) -> Schema {
    one_of(&CopyMode::ALL.map(CopyMode::as_str))
}

/// What becomes of a workload's incoming connections.
pub(crate) fn incoming_mode(_generator: &mut SchemaGenerator) -> Schema {
    one_of(&IncomingMode::ALL.map(IncomingMode::as_str))
}

fn one_of(words: &[&str]) -> Schema {
    json_schema!({ "type": "string", "enum": words })
}
