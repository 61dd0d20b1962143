//! The database on a base, as an object of its cluster: name, owner, encoding, locale, rights, settings, comment.
//!
//! Owns the statements. Leaves what is in the database to `load`.

use crate::postgres::sql;
use crate::source::facts::{Collation, CollationProvider, Facts};
use crate::source::roles::{DatabaseObject, DatabaseRight};

/// Databases that a new cluster has; a copy of one of that name takes its place.
const OF_NEW_CLUSTERS: [&str; 1] = ["postgres"];

/// The database that administration connects to, which a copy never replaces.
pub(super) const MAINTENANCE: &str = "template1";

/// Statements that make the database.
pub(super) fn create(facts: &Facts, database: &DatabaseObject) -> Vec<String> {
    let mut statements = Vec::new();
    let name = sql::ident(&facts.database);
    if OF_NEW_CLUSTERS.contains(&facts.database.as_str()) {
        statements.push(format!("DROP DATABASE {name}"));
    }
    let owner = sql::ident(&database.owner);
    let encoding = sql::literal(&facts.encoding);
    let locale = locale_options(&facts.collation);
    statements.push(format!(
        "CREATE DATABASE {name} WITH OWNER {owner} TEMPLATE template0 ENCODING {encoding} {locale}"
    ));
    statements
}

fn locale_options(collation: &Collation) -> String {
    let mut options = vec![
        format!("LC_COLLATE {}", sql::literal(&collation.collate)),
        format!("LC_CTYPE {}", sql::literal(&collation.ctype)),
    ];
    let locale = collation.locale.as_deref().map(sql::literal);
    match collation.provider {
        CollationProvider::Libc => options.push("LOCALE_PROVIDER libc".to_owned()),
        CollationProvider::Icu => {
            options.push("LOCALE_PROVIDER icu".to_owned());
            options.extend(locale.map(|locale| format!("ICU_LOCALE {locale}")));
        }
        CollationProvider::Builtin => {
            options.push("LOCALE_PROVIDER builtin".to_owned());
            options.extend(locale.map(|locale| format!("BUILTIN_LOCALE {locale}")));
        }
    }
    if let Some(rules) = &collation.rules {
        options.push(format!("ICU_RULES {}", sql::literal(rules)));
    }
    options.join(" ")
}

/// The locale in words.
pub(super) fn describe_locale(collation: &Collation) -> String {
    match (collation.provider, &collation.locale) {
        (CollationProvider::Libc, _) | (_, None) => collation.collate.clone(),
        (CollationProvider::Icu, Some(locale)) => format!("{locale} (ICU)"),
        (CollationProvider::Builtin, Some(locale)) => format!("{locale} (built in)"),
    }
}

/// Statements that give the loaded database its comment and its rights.
pub(super) fn finish(name: &str, database: &DatabaseObject) -> Vec<String> {
    let name = sql::ident(name);
    let mut statements = Vec::new();
    if let Some(comment) = &database.comment {
        statements.push(format!(
            "COMMENT ON DATABASE {name} IS {}",
            sql::literal(comment)
        ));
    }
    if let Some(rights) = &database.rights {
        let owner = sql::ident(&database.owner);
        statements.push(format!(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC, {owner}"
        ));
        statements.extend(rights.iter().map(|right| grant(&name, right)));
    }
    statements
}

fn grant(name: &str, right: &DatabaseRight) -> String {
    let grantee = right
        .grantee
        .as_deref()
        .map_or_else(|| "PUBLIC".to_owned(), sql::ident);
    let option = if right.is_grantable {
        " WITH GRANT OPTION"
    } else {
        ""
    };
    // The right's name is one of PostgreSQL's own words.
    format!(
        "GRANT {} ON DATABASE {name} TO {grantee}{option}",
        right.right
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collation(provider: CollationProvider, locale: Option<&str>) -> Collation {
        Collation {
            provider,
            collate: "en_US.utf8".to_owned(),
            ctype: "C".to_owned(),
            locale: locale.map(str::to_owned),
            rules: None,
            version: None,
        }
    }

    #[test]
    fn each_provider_has_its_words() {
        let options = |provider, locale| locale_options(&collation(provider, locale));
        let libc = "LC_COLLATE 'en_US.utf8' LC_CTYPE 'C'";
        assert_eq!(
            options(CollationProvider::Libc, None),
            format!("{libc} LOCALE_PROVIDER libc")
        );
        assert_eq!(
            options(CollationProvider::Icu, Some("de-AT")),
            format!("{libc} LOCALE_PROVIDER icu ICU_LOCALE 'de-AT'")
        );
        assert_eq!(
            options(CollationProvider::Builtin, Some("C.UTF-8")),
            format!("{libc} LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'")
        );
    }

    #[test]
    fn rights_replace_the_defaults() {
        let database = DatabaseObject {
            owner: "app".to_owned(),
            comment: Some("it's".to_owned()),
            rights: Some(vec![
                DatabaseRight {
                    grantee: None,
                    right: "CONNECT".to_owned(),
                    is_grantable: false,
                },
                DatabaseRight {
                    grantee: Some("app".to_owned()),
                    right: "CREATE".to_owned(),
                    is_grantable: true,
                },
            ]),
        };
        assert_eq!(
            finish("shop", &database),
            [
                "COMMENT ON DATABASE \"shop\" IS 'it''s'",
                "REVOKE ALL ON DATABASE \"shop\" FROM PUBLIC, \"app\"",
                "GRANT CONNECT ON DATABASE \"shop\" TO PUBLIC",
                "GRANT CREATE ON DATABASE \"shop\" TO \"app\" WITH GRANT OPTION",
            ]
        );
    }
}
