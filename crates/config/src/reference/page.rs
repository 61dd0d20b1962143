//! docs/configuration.md: every key with its type, default, example and standing.

use std::fmt::Write;

use super::{Key, keys};
use crate::json::Json;
use crate::overrides;
use crate::support::{Standing, TABLE};

/// What stands before the keys: how a file is read at all.
const INTRODUCTION: &str = "\
<!-- Generated from the types by `BOUGH_PUBLISH=1 cargo test -p config published`. Do not edit. -->

# Configuration

A session is described by one file, which `bough exec -f FILE` reads and `bough verify-config FILE` checks. Its format is
mirrord's: [coming from mirrord](coming-from-mirrord.md) says what differs. The smallest file is `{}`, and no file at all
says the same.

```json
{
  \"target\": {\"path\": {\"deployment\": \"inventory\"}, \"namespace\": \"metalmart\"},
  \"feature\": {
    \"fs\": \"local\",
    \"db_branches\": [
      {
        \"type\": \"pg\",
        \"id\": \"my-debug-session\",
        \"connection\": {\"url\": \"DATABASE_URL\"},
        \"copy\": {\"mode\": \"all\"}
      }
    ]
  }
}
```

## How a file is read

- **Format.** By the extension: `.json` or none is JSON, in which comments and trailing commas are allowed; `.yaml` and
  `.yml` are YAML; `.toml` is TOML. `-f -` reads JSON from standard input. At most 1 MiB, UTF-8.
- **Templates.** The file is rendered first, in the language of [Tera](https://keats.github.io/tera/): `{{ key }}` is the
  session's key, `{{ git_branch }}` the branch that git has checked out (or `MIRRORD_BRANCH_NAME`),
  `{{ get_env(name=\"NAME\", default=\"x\") }}` a variable of the environment. What is undefined is an error:
  `{{ git_branch | default(value=\"main\") }}` is for where git has no branch. Conditions, loops and the filters of Tera 1
  and 2 are there, such as `{{ git_branch | slugify | truncate(length=20, end=\"\") }}`; macros, `include`, a loop within a
  loop, `now` and `get_random` are not: a file comes to an end, and says the same each time.
- **Precedence.** Flag, variable of the environment, file, default. `null` is the same as leaving a key out.
- **Errors.** Every error of a file is told at once, with line and column, the nearest known name, and what to write
  instead. An unknown key is an error.
- **Editors.** `bough schema > bough.schema.json`, and `\"$schema\": \"./bough.schema.json\"` in the file: completion, hover
  texts and most errors while you type.

## What the columns say

**local** is the built-in context. *yes*: the key does what it says. *not yet*: a run goes on without it and says so.
*no effect*: it means nothing here. *refused*: `exec` refuses a file that asks for it, by name and with exit code 2;
`verify-config` warns. **cluster** is any Kubernetes context, as [the guide](guide/kubernetes.md) has them.
";

/// The page.
pub fn configuration_page() -> String {
    let keys = keys();
    let mut page = INTRODUCTION.to_owned();
    let (others, own): (Vec<Group<'_>>, Vec<Group<'_>>) =
        groups(&keys).into_iter().partition(Group::is_other_branch);
    let (used, unused): (Vec<Group<'_>>, Vec<Group<'_>>) =
        own.into_iter().partition(Group::is_used);
    page.push_str("\n## Keys\n");
    used.iter().for_each(|group| group.write(&mut page));
    write_other_branches(&others, &mut page);
    page.push_str("\n## Keys that are read and not used\n\n");
    page.push_str(
        "They are checked as all others are, so that a file with them stays as good as it is.\n",
    );
    unused.iter().for_each(|group| group.write(&mut page));
    write_variables(&mut page);
    write_coverage(&keys, &mut page);
    page
}

/// Which keys the branches of other databases have.
fn write_other_branches(groups: &[Group<'_>], page: &mut String) {
    page.push_str(
        "\n### `feature.db_branches[]` of other databases\n\n\
         They are read and checked; `exec` refuses them by name.\n\n\
         | key | what it says | type | example | databases |\n|---|---|---|---|---|\n",
    );
    let mut rows: Vec<(&Key, Vec<&str>)> = Vec::new();
    for group in groups
        .iter()
        .filter(|group| group.parent.ends_with("db_branches[]"))
    {
        let database = group
            .within
            .and_then(|within| within.split('"').nth(1))
            .unwrap_or_default();
        for key in &group.keys {
            let name = key.path.rsplit('.').next();
            match rows
                .iter_mut()
                .find(|(row, _)| row.path.rsplit('.').next() == name)
            {
                Some((_, databases)) => databases.push(database),
                None => rows.push((key, vec![database])),
            }
        }
    }
    let all = rows.first().map_or(0, |(_, databases)| databases.len());
    for (key, databases) in rows {
        let name = key.path.rsplit('.').next().unwrap_or_default();
        let kind = if name == "type" {
            "the database"
        } else {
            &key.kind
        };
        let example = if name == "type" {
            None
        } else {
            key.example.as_deref()
        };
        let databases = if databases.len() == all {
            "all".to_owned()
        } else {
            databases.join(", ")
        };
        let _ = writeln!(
            page,
            "| `{name}` | {} | {} | {} | {databases} |",
            cell(&key.text),
            cell(kind),
            example.map_or(String::new(), code),
        );
    }
}

/// The keys of one object.
struct Group<'k> {
    parent: &'k str,
    within: Option<&'k str>,
    branch: Option<&'k str>,
    keys: Vec<&'k Key>,
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// The objects, in the order of the keys.
fn groups(keys: &[Key]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for key in keys {
        let (parent, within) = (parent_of(&key.path), key.within.as_deref());
        let branch = key.branch.as_deref();
        match groups.iter_mut().find(|group| {
            group.parent == parent && group.within == within && group.branch == branch
        }) {
            Some(group) => group.keys.push(key),
            None => groups.push(Group {
                parent,
                within,
                branch,
                keys: vec![key],
            }),
        }
    }
    groups
}

impl Group<'_> {
    /// Whether they are of a branch that is not PostgreSQL's.
    fn is_other_branch(&self) -> bool {
        let first = self.keys.first();
        first.is_some_and(|key| is_of_other_branch(key))
    }

    /// Whether a session does anything with any of them.
    fn is_used(&self) -> bool {
        self.keys.iter().any(|key| {
            matches!(key.standing, Standing::Used | Standing::NotInForce)
                || key.path.starts_with("feature.fs.")
        })
    }

    fn write(&self, page: &mut String) {
        let title = match (self.parent, self.within) {
            ("", _) => "The root".to_owned(),
            (parent, None) => format!("`{parent}`"),
            (parent, Some(within)) => format!("`{parent}`, {within}"),
        };
        let _ = writeln!(page, "\n### {title}\n");
        page.push_str("| key | what it says | type | default | example | local | cluster |\n");
        page.push_str("|---|---|---|---|---|---|---|\n");
        for key in &self.keys {
            let name = key.path.rsplit('.').next().unwrap_or_default();
            let _ = writeln!(
                page,
                "| `{name}` | {} | {} | {} | {} | {} | {} |",
                cell(&says(key)),
                cell(&key.kind),
                default_of(key),
                key.example.as_deref().map_or(String::new(), code),
                local(key),
                cluster(key),
            );
        }
        for key in &self.keys {
            if let Some(first) = &key.same_as {
                let _ = writeln!(page, "\nThe keys of `{}` are those of `{first}`.", key.path);
            }
        }
    }
}

fn says(key: &Key) -> String {
    let mut text = key.text.clone();
    let meanings: Vec<String> = key
        .words
        .iter()
        .filter(|(_, meaning)| !meaning.is_empty())
        .map(|(word, meaning)| format!("`{word:?}`: {}", meaning.trim_end_matches('.')))
        .collect();
    if !meanings.is_empty() {
        let _ = write!(text, " {}.", meanings.join("; "));
    }
    for variable in &key.variables {
        let _ = write!(text, " Variable: `{variable}`.");
    }
    text
}

/// A text that stands in one cell of a table.
fn cell(text: &str) -> String {
    text.replace("\n\n", "<br>")
        .replace('\n', " ")
        .replace('|', "\\|")
}

fn code(text: &str) -> String {
    let text = text.replace('|', "\\|");
    if text.contains('`') {
        format!("`` {text} ``")
    } else {
        format!("`{text}`")
    }
}

fn default_of(key: &Key) -> String {
    match &key.default {
        _ if key.is_required => "required".to_owned(),
        None | Some(Json::Null) => String::new(),
        // An object's defaults are those of its keys.
        Some(Json::Object(_)) => String::new(),
        Some(value) => {
            let text = serde_json::to_string(value).expect("JSON can be written");
            code(&text)
        }
    }
}

fn local(key: &Key) -> String {
    let effect = cell(key.effect);
    match own_standing(key) {
        Standing::Used => "yes".to_owned(),
        Standing::NotInForce => {
            let what = effect.strip_prefix("not in force yet: ").unwrap_or(&effect);
            format!("not yet: {what}")
        }
        Standing::NoEffect => "no effect".to_owned(),
        Standing::Refused => format!("refused: {effect}"),
    }
}

fn cluster(key: &Key) -> &'static str {
    match (key.standing, key.path.as_str()) {
        (_, "operator") => "yes",
        (Standing::NoEffect, _) => "no effect",
        (Standing::Used, _) => "yes",
        (Standing::NotInForce, _) => "not yet",
        (Standing::Refused, _) => "refused",
    }
}

fn write_variables(page: &mut String) {
    page.push_str(
        "\n## Variables of the environment\n\n\
         A variable that is set and not empty wins over the file, a flag over the variable. Lists have `;` between their \
         entries. `MIRRORD_AGENT_TCP_STEAL_TRAFFIC` is a mode, or `true` for `steal` and `false` for `off`.\n\n\
         | variable | sets |\n|---|---|\n",
    );
    for (name, path) in overrides::table() {
        let _ = writeln!(page, "| `{name}` | `{path}` |");
    }
    page.push_str(
        "| `MIRRORD_CONFIG_FILE`, `BOUGH_CONFIG_FILE` | the file itself |\n\
         | `MIRRORD_BRANCH_NAME` | `{{ git_branch }}` in templates |\n",
    );
}

fn write_coverage(keys: &[Key], page: &mut String) {
    let count = |standing| {
        keys.iter()
            .filter(|key| own_standing(key) == standing)
            .count()
    };
    let _ = write!(
        page,
        "\n## Coverage of the format\n\n\
         Of the {} keys of the format {} are used, {} are not in force yet, {} are refused by name, and {} are read without \
         effect. All that are not used:\n\n\
         | key | in `local` | what happens |\n|---|---|---|\n",
        keys.len(),
        count(Standing::Used),
        count(Standing::NotInForce),
        count(Standing::Refused),
        count(Standing::NoEffect),
    );
    for support in TABLE {
        let standing = match support.standing {
            Standing::Used => "used",
            Standing::NotInForce => "not yet",
            Standing::NoEffect => "no effect",
            Standing::Refused => "refused",
        };
        let _ = writeln!(
            page,
            "| `{}` | {standing} | {} |",
            support.path,
            cell(support.effect)
        );
    }
    page.push_str(
        "| `feature.db_branches[]` of a `type` other than `\"pg\"` | refused | branches of other databases are not supported \
         yet |\n\
         | `feature.db_branches[].image` | version alone | branches run this machine's PostgreSQL of the image's version; an \
         image other than `postgres:VERSION` is refused |\n",
    );
}

/// Branches of other databases are refused whole.
fn own_standing(key: &Key) -> Standing {
    if is_of_other_branch(key) {
        Standing::Refused
    } else {
        key.standing
    }
}

fn is_of_other_branch(key: &Key) -> bool {
    key.branch
        .as_deref()
        .is_some_and(|branch| !branch.contains("\"pg\""))
}
