//! `feature.env` as files have it: reading it into rules, and writing rules back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::Secret;

use super::{EnvRules, Mapping, Selection, Wildcard};
use crate::decode::{Decode, OneOrMany, Record, Render, Report, Shape, record, report_kind};
use crate::json::Json;
use crate::pattern;
use crate::tree::{Node, Value};

record! {
    /// Which variables the process gets. `true` is all of the target's, `false` none of them. The target's own come first,
    /// then `env_file`, `mapping` and `override`, all of that over the caller's environment; then `unset` removes; the
    /// variables that lead to branches come last.
    pub(crate) struct WrittenRules in more forms {
        /// The only variables of the target that come along, by name; `*` stands for any characters, `?` for one. A list,
        /// or one text with `;` between names. Not beside `exclude`.
        /// Example: `["DATABASE_*", "REDIS_URL"]`
        include: Option<OneOrMany<String>>,
        /// Variables of the target that stay behind, in the same forms. Not beside `include`.
        /// Example: `"AWS_*;SENTRY_DSN"`
        exclude: Option<OneOrMany<String>>,
        /// Variables with values of their own.
        /// Example: `{"LOG_LEVEL": "debug"}`
        overrides as "override": Option<BTreeMap<String, Secret>>,
        /// Values for every variable of the target or of `env_file` whose name the pattern matches.
        /// Example: `{".+_TIMEOUT": "1000"}`
        mapping: Option<Mappings>,
        /// Variables that the process does not get, in whatever case. `feature.magic.aws` adds `AWS_PROFILE`.
        /// Example: `["AWS_PROFILE"]`
        unset: Option<OneOrMany<String>>,
        /// A dotenv file, whose variables come over the target's. A relative path starts at the working directory.
        /// Example: `".env"`
        env_file: Option<String>,
        /// Whether variables are fetched only after the process has started.
        load_from_process: Option<bool>,
    }
}

/// Mappings in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mappings(Vec<Mapping>);

impl Decode for Mappings {
    const EXPECTED: &'static str = "an object of patterns and values";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        let read: Vec<Option<Mapping>> = node
            .members()
            .iter()
            .map(|member| {
                let child = Node {
                    path: node.path_to(&member.key),
                    tree: &member.value,
                };
                let value = Secret::decode(&child, report);
                match pattern::compile(&member.key) {
                    Ok(pattern) => value.map(|value| Mapping { pattern, value }),
                    Err(error) => {
                        pattern::report_broken(
                            &child.path,
                            member.key_span.clone(),
                            &error,
                            report,
                        );
                        None
                    }
                }
            })
            .collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn shape() -> Shape {
        Shape::text("values under regular expressions").map()
    }
}

impl Render for Mappings {
    fn render(&self) -> Json {
        render_mapping(&self.0)
    }
}

fn render_mapping(mapping: &[Mapping]) -> Json {
    Json::object(
        mapping
            .iter()
            .map(|mapping| (mapping.pattern.as_str(), mapping.value.render())),
    )
}

fn split_patterns(list: Option<OneOrMany<String>>) -> Option<Vec<Wildcard>> {
    list.map(|OneOrMany(entries)| {
        entries
            .iter()
            .flat_map(|entry| entry.split(';'))
            .map(str::trim)
            .filter(|pattern| !pattern.is_empty())
            .map(Wildcard::new)
            .collect()
    })
}

impl Decode for EnvRules {
    const EXPECTED: &'static str = "true, false or an object";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        match (node.truth(), &node.tree.value) {
            (Some(true), _) => Some(Self::default()),
            (Some(false), _) => Some(Self {
                selection: Selection::None,
                ..Self::default()
            }),
            (None, Value::Object(_)) => {
                let rules = read_rules(node, report);
                hint_at_variables(node, report);
                rules
            }
            (None, _) => {
                report_kind::<()>(node, Self::EXPECTED, report);
                if matches!(node.tree.value, Value::List(_)) {
                    report.hint_at(&node.path, "write {\"include\": [...]} to name variables");
                }
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([Shape::Bool, WrittenRules::object_shape()])
    }
}

/// Whoever writes variables themselves is told where their values stand.
fn hint_at_variables(node: &Node<'_>, report: &mut Report) {
    for member in node.members() {
        let is_variable = matches!(member.value.value, Value::Text(_))
            && member.key.chars().any(|c| c.is_ascii_uppercase());
        if is_variable {
            report.hint_at(
                &node.path_to(&member.key),
                "values of variables stand under \"override\"",
            );
        }
    }
}

fn read_rules(node: &Node<'_>, report: &mut Report) -> Option<EnvRules> {
    let written = WrittenRules::decode_record(node, report)?;
    let selection = match (
        split_patterns(written.include),
        split_patterns(written.exclude),
    ) {
        (Some(_), Some(_)) => {
            report.exclusive(node, "include", "exclude");
            return None;
        }
        (Some(include), None) => Selection::Include(include),
        (None, Some(exclude)) => Selection::Exclude(exclude),
        (None, None) => Selection::All,
    };
    Some(EnvRules {
        selection,
        env_file: written.env_file.map(PathBuf::from),
        mapping: written.mapping.map_or_else(Vec::new, |Mappings(list)| list),
        overrides: written.overrides.unwrap_or_default(),
        unset: written.unset.map_or_else(Vec::new, |OneOrMany(list)| list),
        load_from_process: written.load_from_process,
    })
}

impl Render for EnvRules {
    fn render(&self) -> Json {
        let patterns = |list: &[Wildcard]| {
            Json::list(list.iter().map(|pattern| Json::text(pattern.to_string())))
        };
        let (include, exclude) = match &self.selection {
            Selection::All => (Json::Null, Json::Null),
            Selection::None => (Json::Null, Json::list([Json::from("*")])),
            Selection::Include(list) => (patterns(list), Json::Null),
            Selection::Exclude(list) => (Json::Null, patterns(list)),
        };
        let file = self.env_file.as_ref();
        Json::object([
            ("include", include),
            ("exclude", exclude),
            ("override", self.overrides.render()),
            ("mapping", render_mapping(&self.mapping)),
            ("unset", self.unset.render()),
            (
                "env_file",
                file.map_or(Json::Null, |path| Json::text(path.to_string_lossy())),
            ),
            ("load_from_process", self.load_from_process.render()),
        ])
    }
}
