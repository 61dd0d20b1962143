//! A source's roles on a base: the statements that make them, in an order that works.
//!
//! Owns the statements, those that bring an older copy's roles up to the source's as well, and what is said of roles that
//! cannot log in. A provider's own roles become stubs, which own and are granted what they own and are granted on the source, but may do nothing by themselves.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use model::PgMajor;

use crate::postgres::initdb::ADMIN_ROLE;
use crate::postgres::sql;
use crate::source::roles::{DefaultSetting, Membership, ParameterRight, Role, Roles};

/// Settings that name what a base does not have: tablespaces, and libraries that would be loaded into every session.
const LEFT_OUT: [&str; 4] = [
    "default_tablespace",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
];

/// Settings whose value is a list of names, which `SET` would take for one name in quotes (`GUC_LIST_QUOTE`).
const LISTS: [&str; 1] = ["search_path"];

/// Roles that log in, by whether their passwords came along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::base) struct LoginRoles {
    pub(in crate::base) with_verifier: Vec<String>,
    pub(in crate::base) without_password: Vec<String>,
}

/// Which login roles can log in on a branch. `known` is the user whose password the URL has.
pub(in crate::base) fn login_roles(roles: &Roles, known: Option<&str>) -> LoginRoles {
    let mut found = LoginRoles::default();
    for role in made(roles).filter(|role| role.logs_in && !role.is_providers) {
        if role.verifier.is_some() {
            found.with_verifier.push(role.name.clone());
        } else if known != Some(role.name.as_str()) {
            found.without_password.push(role.name.clone());
        }
    }
    found
}

/// Roles that are made: all but the one that every cluster of ours has.
fn made(roles: &Roles) -> impl Iterator<Item = &Role> {
    roles.roles.iter().filter(|role| role.name != ADMIN_ROLE)
}

/// The first version in which a grantor must hold the role with ADMIN.
const CHECKS_GRANTORS: PgMajor = PgMajor(16);

/// Statements that make the roles and their memberships on a server of a version.
pub(super) fn create(roles: &Roles, major: PgMajor) -> Vec<String> {
    let mut statements = make(roles, &BTreeSet::new());
    statements.extend(grant(roles, major));
    statements
}

fn grant(roles: &Roles, major: PgMajor) -> Vec<String> {
    let order = Order {
        known: names(roles),
        first_superuser: &roles.first_superuser,
        checks_grantors: major >= CHECKS_GRANTORS,
    };
    order.grant(&roles.memberships)
}

/// What an older copy has of roles.
#[derive(Debug)]
pub(in crate::base) struct Older {
    /// The version of its server.
    pub(in crate::base) major: PgMajor,
    /// Its roles, but PostgreSQL's own.
    pub(in crate::base) roles: BTreeSet<String>,
    /// Statements that end all memberships of these.
    pub(in crate::base) revokes: Vec<String>,
}

/// Statements that bring the roles of an older copy and their memberships up to the source's. Their settings are as they were:
/// those count as definitions. A role that is gone logs in no more, and keeps what it owns and may.
pub(in crate::base) fn renew(roles: &Roles, older: &Older) -> Vec<String> {
    let there = &older.roles;
    let mut statements = make(roles, there);
    statements.extend(older.revokes.iter().cloned());
    statements.extend(grant(roles, older.major));
    let known = names(roles);
    let is_gone = |name: &&String| name.as_str() != ADMIN_ROLE && !known.contains(name.as_str());
    let shut = |name: &String| format!("ALTER ROLE {} WITH NOLOGIN", sql::ident(name));
    statements.extend(there.iter().filter(is_gone).map(shut));
    statements
}

fn names(roles: &Roles) -> BTreeSet<&str> {
    made(roles).map(|role| role.name.as_str()).collect()
}

/// Statements that make the roles alone, or change those that are `there`.
fn make(roles: &Roles, there: &BTreeSet<String>) -> Vec<String> {
    let mut statements = Vec::new();
    for role in made(roles) {
        let standing = if role.name == roles.first_superuser {
            Standing::FirstSuperuser
        } else if there.contains(&role.name) {
            Standing::There
        } else {
            Standing::New
        };
        statements.push(make_role(role, standing));
        statements.extend(comment_on(role));
    }
    statements
}

fn comment_on(role: &Role) -> Option<String> {
    let comment = sql::literal(role.comment.as_ref()?);
    let name = sql::ident(&role.name);
    Some(format!("COMMENT ON ROLE {name} IS {comment}"))
}

/// Whether a role is on the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not yet.
    New,
    /// As an older copy had it.
    There,
    /// It came with the base, and stays one: PostgreSQL demands it.
    FirstSuperuser,
}

fn make_role(role: &Role, standing: Standing) -> String {
    let is_first = standing == Standing::FirstSuperuser;
    let verb = match standing {
        Standing::New => "CREATE",
        Standing::There | Standing::FirstSuperuser => "ALTER",
    };
    let mut statement = format!("{verb} ROLE {} WITH", sql::ident(&role.name));
    let may = |is: bool| is && !role.is_providers;
    for (is, word) in [
        (may(role.is_superuser) || is_first, "SUPERUSER"),
        (role.inherits, "INHERIT"),
        (may(role.creates_roles), "CREATEROLE"),
        (may(role.creates_databases), "CREATEDB"),
        (may(role.logs_in), "LOGIN"),
        (may(role.replicates), "REPLICATION"),
        (may(role.bypasses_row_security), "BYPASSRLS"),
    ] {
        let no = if is { "" } else { "NO" };
        write!(statement, " {no}{word}").expect("a String takes any text");
    }
    if role.connection_limit >= 0 || standing == Standing::There {
        write!(statement, " CONNECTION LIMIT {}", role.connection_limit)
            .expect("a String takes any text");
    }
    let until = role.valid_until.as_deref();
    let until = until.or((standing == Standing::There).then_some("infinity"));
    if let Some(until) = until {
        write!(statement, " VALID UNTIL {}", sql::literal(until)).expect("a String takes any text");
    }
    match role.verifier.as_ref().filter(|_| may(true)) {
        Some(verifier) => {
            let verifier = sql::literal(verifier.reveal());
            write!(statement, " PASSWORD {verifier}").expect("a String takes any text");
        }
        // `initdb` gave it one of ours.
        None if is_first => statement.push_str(" PASSWORD NULL"),
        None => {}
    }
    statement
}

/// What the order of grants depends on.
struct Order<'a> {
    known: BTreeSet<&'a str>,
    first_superuser: &'a str,
    checks_grantors: bool,
}

impl Order<'_> {
    /// Grants, each after the one that gave its grantor the role with ADMIN; the first superuser needs none.
    fn grant(&self, memberships: &[Membership]) -> Vec<String> {
        let mut waiting: Vec<_> = memberships
            .iter()
            .filter(|membership| self.exists(&membership.role) && self.exists(&membership.member))
            .collect();
        let mut admins: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut statements = Vec::new();
        while !waiting.is_empty() {
            let may = |membership: &&Membership| match &membership.grantor {
                None => true,
                Some(grantor) => {
                    !self.checks_grantors
                        || grantor == self.first_superuser
                        || admins.contains(&(membership.role.as_str(), grantor.as_str()))
                }
            };
            let (mut ready, rest): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(may);
            // Grantors that hold no ADMIN any more: the grant counts, by whom it came does not.
            let is_orphaned = ready.is_empty();
            waiting = if is_orphaned {
                ready = rest;
                Vec::new()
            } else {
                rest
            };
            for membership in ready {
                let grantor = membership.grantor.as_deref();
                let grantor = grantor.filter(|name| !is_orphaned && self.exists(name));
                statements.push(grant_one(membership, grantor));
                if membership.admin {
                    admins.insert((&membership.role, &membership.member));
                }
            }
        }
        statements
    }

    fn exists(&self, name: &str) -> bool {
        self.known.contains(name) || name.starts_with("pg_")
    }
}

fn grant_one(membership: &Membership, grantor: Option<&str>) -> String {
    let (role, member) = (sql::ident(&membership.role), sql::ident(&membership.member));
    let mut options = Vec::new();
    if let Some(inherit) = membership.inherit {
        options.push(format!("INHERIT {inherit}"));
    }
    if let Some(set) = membership.set {
        options.push(format!("SET {set}"));
    }
    // Before 16 there is ADMIN alone, and as a word without a value.
    let options = match (options.is_empty(), membership.admin) {
        (true, true) => " WITH ADMIN OPTION".to_owned(),
        (true, false) => String::new(),
        (false, admin) => format!(" WITH ADMIN {admin}, {}", options.join(", ")),
    };
    let by = grantor.map(|name| format!(" GRANTED BY {}", sql::ident(name)));
    format!(
        "GRANT {role} TO {member}{options}{}",
        by.unwrap_or_default()
    )
}

/// A statement that makes a default setting, in a database of this name.
pub(super) fn set(setting: &DefaultSetting, database: &str) -> Option<String> {
    if LEFT_OUT.contains(&setting.name.as_str()) {
        return None;
    }
    let database = sql::ident(database);
    let target = match (&setting.role, setting.in_database) {
        (Some(role), true) => format!("ROLE {} IN DATABASE {database}", sql::ident(role)),
        (Some(role), false) => format!("ROLE {}", sql::ident(role)),
        (None, true) => format!("DATABASE {database}"),
        (None, false) => "ROLE ALL".to_owned(),
    };
    let name = setting_name(&setting.name);
    let value = sql::literal(&setting.value);
    if LISTS.contains(&setting.name.as_str()) {
        // As the server keeps it, the value is already quoted: taken over rather than parsed.
        return Some(format!(
            "BEGIN; SELECT pg_catalog.set_config({}, {value}, true); ALTER {target} SET {name} FROM CURRENT; COMMIT",
            sql::literal(&setting.name)
        ));
    }
    Some(format!("ALTER {target} SET {name} TO {value}"))
}

/// A statement by which a session sees names as the database's ordinary ones do: defaults are set when all else is done,
/// and bind those that begin later.
pub(super) fn search_path(settings: &[DefaultSetting]) -> String {
    let paths = settings
        .iter()
        .filter(|setting| setting.role.is_none() && setting.name == "search_path");
    // The database's own goes before everybody's.
    match paths.max_by_key(|setting| setting.in_database) {
        Some(path) => format!(
            "SELECT pg_catalog.set_config('search_path', {}, false)",
            sql::literal(&path.value)
        ),
        None => "SET search_path TO DEFAULT".to_owned(),
    }
}

/// A statement that gives a right on a setting.
pub(super) fn grant_parameter(right: &ParameterRight) -> String {
    let grantee = right.grantee.as_deref();
    let grantee = grantee.map_or_else(|| "PUBLIC".to_owned(), sql::ident);
    let option = if right.is_grantable {
        " WITH GRANT OPTION"
    } else {
        ""
    };
    format!(
        "GRANT {} ON PARAMETER {} TO {grantee}{option}",
        right.right,
        setting_name(&right.parameter)
    )
}

/// A setting's name, each part of it in quotes.
fn setting_name(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(sql::ident).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use model::Secret;

    use super::*;
    use crate::source::roles::DatabaseObject;

    fn role(name: &str) -> Role {
        Role {
            name: name.to_owned(),
            is_superuser: false,
            inherits: true,
            creates_roles: false,
            creates_databases: false,
            logs_in: true,
            replicates: false,
            bypasses_row_security: false,
            connection_limit: -1,
            valid_until: None,
            comment: None,
            verifier: None,
            is_providers: false,
        }
    }

    fn roles(roles: Vec<Role>, memberships: Vec<Membership>) -> Roles {
        Roles {
            roles,
            memberships,
            settings: Vec::new(),
            parameter_rights: Vec::new(),
            database: DatabaseObject {
                owner: "app".to_owned(),
                comment: None,
                rights: None,
            },
            first_superuser: "postgres".to_owned(),
            verifiers_readable: true,
        }
    }

    fn membership(role: &str, member: &str, grantor: Option<&str>, admin: bool) -> Membership {
        Membership {
            role: role.to_owned(),
            member: member.to_owned(),
            grantor: grantor.map(str::to_owned),
            admin,
            inherit: Some(true),
            set: Some(false),
        }
    }

    #[test]
    fn a_providers_role_becomes_a_stub() {
        let provider = Role {
            is_superuser: true,
            creates_roles: true,
            replicates: true,
            bypasses_row_security: true,
            verifier: Some(Secret::new("SCRAM-SHA-256$x")),
            is_providers: true,
            ..role("rdsadmin")
        };
        assert_eq!(
            create(&roles(vec![provider], Vec::new()), PgMajor(16)),
            [
                "CREATE ROLE \"rdsadmin\" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION \
              NOBYPASSRLS"
            ]
        );
    }

    #[test]
    fn the_first_superuser_is_there_already() {
        let first = Role {
            is_superuser: true,
            ..role("postgres")
        };
        assert_eq!(
            create(&roles(vec![first], Vec::new()), PgMajor(16)),
            [
                "ALTER ROLE \"postgres\" WITH SUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS \
              PASSWORD NULL"
            ]
        );
    }

    #[test]
    fn a_role_keeps_everything_it_has() {
        let full = Role {
            connection_limit: 3,
            valid_until: Some("2030-01-01 00:00:00+00".to_owned()),
            comment: Some("it's mine".to_owned()),
            verifier: Some(Secret::new("md5abc")),
            creates_databases: true,
            ..role("App \"1\"")
        };
        let statements = create(
            &roles(vec![full, role(ADMIN_ROLE)], Vec::new()),
            PgMajor(16),
        );
        assert_eq!(
            statements,
            [
                "CREATE ROLE \"App \"\"1\"\"\" WITH NOSUPERUSER INHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION \
                 NOBYPASSRLS CONNECTION LIMIT 3 VALID UNTIL '2030-01-01 00:00:00+00' PASSWORD 'md5abc'",
                "COMMENT ON ROLE \"App \"\"1\"\"\" IS 'it''s mine'",
            ]
        );
    }

    #[test]
    fn what_an_older_copy_has_of_roles_becomes_the_sources() {
        let new = Role {
            valid_until: Some("2030-01-01 00:00:00+00".to_owned()),
            ..role("new")
        };
        let old = Role {
            verifier: Some(Secret::new("md5abc")),
            comment: Some("rotated".to_owned()),
            ..role("old")
        };
        let older = Older {
            major: PgMajor(16),
            roles: ["old", "gone", ADMIN_ROLE].map(str::to_owned).into(),
            revokes: vec!["REVOKE \"old\" FROM \"gone\" CASCADE".to_owned()],
        };
        let member = membership("old", "new", None, false);
        assert_eq!(
            renew(&roles(vec![new, old], vec![member]), &older),
            [
                "CREATE ROLE \"new\" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS \
                 VALID UNTIL '2030-01-01 00:00:00+00'",
                "ALTER ROLE \"old\" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS \
                 CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD 'md5abc'",
                "COMMENT ON ROLE \"old\" IS 'rotated'",
                "REVOKE \"old\" FROM \"gone\" CASCADE",
                "GRANT \"old\" TO \"new\" WITH ADMIN false, INHERIT true, SET false",
                "ALTER ROLE \"gone\" WITH NOLOGIN",
            ]
        );
    }

    #[test]
    fn grants_come_after_the_grants_of_their_grantors() {
        let all = vec![role("postgres"), role("a"), role("b"), role("c"), role("g")];
        let memberships = vec![
            membership("g", "c", Some("b"), false),
            membership("g", "b", Some("a"), true),
            membership("g", "a", Some("postgres"), true),
            membership("g", "gone", None, false),
        ];
        let statements = create(&roles(all, memberships), PgMajor(16));
        assert_eq!(
            statements[5..],
            [
                "GRANT \"g\" TO \"a\" WITH ADMIN true, INHERIT true, SET false GRANTED BY \"postgres\"",
                "GRANT \"g\" TO \"b\" WITH ADMIN true, INHERIT true, SET false GRANTED BY \"a\"",
                "GRANT \"g\" TO \"c\" WITH ADMIN false, INHERIT true, SET false GRANTED BY \"b\"",
            ]
        );
    }

    #[test]
    fn a_grant_whose_grantor_lost_the_role_still_counts() {
        let orphan = membership("g", "a", Some("b"), false);
        let old = Membership {
            inherit: None,
            set: None,
            admin: true,
            ..membership("pg_monitor", "a", None, true)
        };
        let statements = create(
            &roles(vec![role("a"), role("b"), role("g")], vec![orphan, old]),
            PgMajor(16),
        );
        assert_eq!(
            statements[3..],
            [
                "GRANT \"pg_monitor\" TO \"a\" WITH ADMIN OPTION",
                "GRANT \"g\" TO \"a\" WITH ADMIN false, INHERIT true, SET false",
            ]
        );
    }

    #[test]
    fn login_roles_are_named_by_whether_their_passwords_are_known() {
        let with = Role {
            verifier: Some(Secret::new("SCRAM-SHA-256$x")),
            ..role("with")
        };
        let group = Role {
            logs_in: false,
            ..role("group")
        };
        let found = login_roles(
            &roles(vec![with, role("without"), role("app"), group], Vec::new()),
            Some("app"),
        );
        assert_eq!(found.with_verifier, ["with"]);
        assert_eq!(found.without_password, ["without"]);
    }

    #[test]
    fn settings_are_set_where_they_were() {
        let setting = |role: Option<&str>, in_database, name: &str, value: &str| DefaultSetting {
            role: role.map(str::to_owned),
            in_database,
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let statement = |setting| set(&setting, "shop").unwrap();
        assert_eq!(
            statement(setting(Some("app"), true, "app.tenant", "it's")),
            "ALTER ROLE \"app\" IN DATABASE \"shop\" SET \"app\".\"tenant\" TO 'it''s'"
        );
        assert_eq!(
            statement(setting(None, true, "work_mem", "64MB")),
            "ALTER DATABASE \"shop\" SET \"work_mem\" TO '64MB'"
        );
        assert_eq!(
            statement(setting(
                Some("app"),
                false,
                "search_path",
                "\"$user\", public"
            )),
            "BEGIN; SELECT pg_catalog.set_config('search_path', '\"$user\", public', true); \
             ALTER ROLE \"app\" SET \"search_path\" FROM CURRENT; COMMIT"
        );
        assert_eq!(
            set(&setting(None, true, "default_tablespace", "fast"), "shop"),
            None
        );
    }
}
