//! Writing a connection in the shapes that a file has for it.

use super::{Connection, Origin, VariableKind};
use crate::decode::Render;
use crate::json::Json;

impl Render for Origin {
    /// The `url` object; a part of a variable has none and is never a whole connection string.
    fn render(&self) -> Json {
        match self {
            Self::Variable {
                name,
                kind,
                container,
                literal,
            } => {
                let kind = match kind {
                    VariableKind::Any | VariableKind::Env => "env",
                    VariableKind::EnvFrom => "env_from",
                };
                let mut members = vec![
                    ("type", Json::from(kind)),
                    ("variable", Json::text(name)),
                    ("container", container.render()),
                ];
                if let Some(literal) = literal {
                    members.push(("value", literal.render()));
                }
                Json::object(members)
            }
            Self::Pattern { .. } => param(self),
            Self::Secret {
                name,
                key,
                variable,
            } => Json::object([
                ("type", Json::from("secret")),
                ("name", Json::text(name)),
                ("key", Json::text(key)),
                ("env_var_name", variable.render()),
            ]),
            Self::GcpSecretManager {
                reference,
                variable,
            } => Json::object([
                ("type", Json::from("gcp_secret_manager")),
                ("secret_ref", Json::text(reference)),
                ("env_var_name", variable.render()),
            ]),
        }
    }
}

pub(super) fn param(origin: &Origin) -> Json {
    match origin {
        Origin::Variable {
            name,
            literal: None,
            ..
        } => Json::text(name),
        Origin::Variable {
            name,
            literal: Some(literal),
            ..
        } => Json::object([
            ("env_var_name", Json::text(name)),
            ("value", literal.render()),
        ]),
        Origin::Pattern { name, pattern } => Json::object([
            ("env_var_name", Json::text(name)),
            ("value_pattern", Json::text(pattern.as_str())),
        ]),
        Origin::Secret {
            name,
            key,
            variable,
        } => Json::object([
            ("secret", Json::text(name)),
            ("key", Json::text(key)),
            ("env_var_name", variable.render()),
        ]),
        Origin::GcpSecretManager {
            reference,
            variable,
        } => Json::object([
            ("gcp_secret_manager", Json::text(reference)),
            ("env_var_name", variable.render()),
        ]),
    }
}

/// The word for where all variables of a connection are defined; none where it was not said.
fn kind_of<'o>(origins: impl IntoIterator<Item = &'o Origin>) -> Option<Json> {
    let kind = origins.into_iter().find_map(|origin| match origin {
        Origin::Variable { kind, .. } => Some(*kind),
        Origin::Pattern { .. } | Origin::Secret { .. } | Origin::GcpSecretManager { .. } => None,
    });
    match kind? {
        VariableKind::Any => None,
        VariableKind::Env => Some(Json::from("env")),
        VariableKind::EnvFrom => Some(Json::from("env_from")),
    }
}

impl Render for Connection {
    fn render(&self) -> Json {
        let mut members = Vec::new();
        match self {
            Self::Url(origins) => {
                let names: Option<Vec<Json>> = origins
                    .iter()
                    .map(|origin| match origin {
                        Origin::Variable {
                            name,
                            container: None,
                            literal: None,
                            ..
                        } => Some(Json::text(name)),
                        Origin::Variable { .. }
                        | Origin::Pattern { .. }
                        | Origin::Secret { .. }
                        | Origin::GcpSecretManager { .. } => None,
                    })
                    .collect();
                match (names, origins.first()) {
                    (Some(names), _) => {
                        members.extend(kind_of(origins).map(|kind| ("type", kind)));
                        members.push(("url", Json::list(names)));
                    }
                    (None, Some(origin)) => members.push(("url", origin.render())),
                    (None, None) => {}
                }
            }
            Self::Params(params) => {
                members.extend(kind_of(params.values().flatten()).map(|kind| ("type", kind)));
                let params = params
                    .iter()
                    .map(|(key, origins)| (key.as_str(), Json::list(origins.iter().map(param))));
                members.push(("params", Json::object(params)));
            }
        }
        Json::object(members)
    }
}
