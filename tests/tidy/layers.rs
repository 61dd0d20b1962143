//! Who may depend on whom: words, then contracts, then workers, then the entry. Workers never depend on each other.

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The package itself or its build.
    Product,
    /// Its tests, examples and benchmarks.
    Tests,
}

/// One package of ours depends on another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) kind: Kind,
}

/// What a package may depend on, of ours.
#[derive(Debug, Clone, Copy)]
enum May {
    /// These; and its tests `fixtures` as well.
    Use(&'static [&'static str]),
    /// Nothing, its tests included.
    StandAlone,
    /// Anything: it is for developers only.
    UseAny,
}

/// The whole drawing. A package that is not in it is a complaint, and so is one of them that depends on more.
const TABLE: [(&str, May); 13] = [
    ("model", May::Use(&[])),
    ("config", May::Use(&["model"])),
    ("wire", May::Use(&["model"])),
    ("resources", May::Use(&["model"])),
    ("engine", May::Use(&["model"])),
    ("operator", May::Use(&["model", "resources"])),
    ("agent", May::Use(&["model", "wire"])),
    ("supervisor", May::Use(&["model", "wire"])),
    // The package of crates/cli has the name of its program.
    (
        "bough",
        May::Use(&[
            "model",
            "config",
            "wire",
            "resources",
            "engine",
            "operator",
            "agent",
            "supervisor",
        ]),
    ),
    ("metalmart", May::StandAlone),
    ("fixtures", May::StandAlone),
    ("tests", May::UseAny),
    ("xtask", May::UseAny),
];

/// What is for tests only.
const FIXTURES: &str = "fixtures";

/// Packages that the table does not have, and dependencies that it does not allow.
pub(crate) fn complaints(packages: &[String], edges: &[Edge]) -> Vec<String> {
    let may = |name: &str| {
        TABLE
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, may)| *may)
    };
    let unknown = packages.iter().filter(|name| may(name).is_none());
    let unknown = unknown.map(|name| {
        format!("{name}: not in the table of tests/tidy/layers.rs: say what it may depend on")
    });
    let forbidden = edges
        .iter()
        .filter(|edge| may(&edge.from).is_some_and(|may| !allows(may, edge)));
    let forbidden = forbidden.map(|edge| match edge.kind {
        Kind::Product => format!(
            "{} depends on {}, which tests/tidy/layers.rs does not allow",
            edge.from, edge.to
        ),
        Kind::Tests => format!(
            "the tests of {} depend on {}, which tests/tidy/layers.rs does not allow",
            edge.from, edge.to
        ),
    });
    unknown.chain(forbidden).collect()
}

fn allows(may: May, edge: &Edge) -> bool {
    match may {
        May::Use(names) => {
            names.contains(&edge.to.as_str()) || (edge.kind == Kind::Tests && edge.to == FIXTURES)
        }
        May::StandAlone => false,
        May::UseAny => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(from: &str, to: &str, kind: Kind) -> Vec<String> {
        complaints(
            &[],
            &[Edge {
                from: from.into(),
                to: to.into(),
                kind,
            }],
        )
    }

    #[test]
    fn what_the_drawing_has_is_fine() {
        for (from, to) in [
            ("engine", "model"),
            ("bough", "engine"),
            ("agent", "wire"),
            ("xtask", "bough"),
            ("tests", "fixtures"),
        ] {
            assert_eq!(of(from, to, Kind::Product), [""; 0], "{from} -> {to}");
        }
        assert_eq!(of("engine", "fixtures", Kind::Tests), [""; 0]);
    }

    #[test]
    fn what_it_does_not_have_is_a_complaint() {
        for (from, to) in [
            ("model", "config"),
            ("engine", "config"),
            ("engine", "supervisor"),
            ("supervisor", "agent"),
            ("engine", "fixtures"),
            ("bough", "fixtures"),
            ("bough", "metalmart"),
            ("metalmart", "model"),
            ("fixtures", "model"),
            ("model", "tests"),
        ] {
            assert_eq!(of(from, to, Kind::Product).len(), 1, "{from} -> {to}");
        }
        assert_eq!(
            of("metalmart", "fixtures", Kind::Tests).len(),
            1,
            "the demo stands alone"
        );
        assert_eq!(
            of("engine", "supervisor", Kind::Tests).len(),
            1,
            "tests of workers are bound too"
        );
    }

    #[test]
    fn a_new_package_must_be_placed() {
        let found = complaints(&["model".into(), "common".into()], &[]);
        assert!(
            found.len() == 1 && found[0].starts_with("common:"),
            "{found:?}"
        );
    }
}
