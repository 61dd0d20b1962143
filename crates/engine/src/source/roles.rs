//! The roles of a source: what they are, whose members, with which settings, and which passwords are known.
//!
//! Owns reading them and telling a provider's roles from its customers'. Leaves making them on a base to
//! `base::copy`.

use model::Secret;

use super::{Answer, SourceError, row, rows};
use crate::postgres::connect::Session;

/// Roles that providers keep for themselves: they own catalogue objects and are granted to customers, but nobody logs
/// in as them. Amazon RDS and Aurora, Google Cloud SQL and AlloyDB, Azure, Neon, Supabase, Aiven.
const PROVIDER_NAMES: [&str; 12] = [
    "azuresu",
    "cloud_admin",
    "cloudsqladmin",
    "cloudsqlagent",
    "cloudsqlreplica",
    "cloudsqlsuperuser",
    "rdsadmin",
    "rdsproxyadmin",
    "rdsrepladmin",
    "rdstopmgr",
    "rdswriteforwarduser",
    "_aiven",
];

/// How such roles' names begin.
const PROVIDER_PREFIXES: [&str; 8] = [
    "rds_",
    "cloudsqliam",
    "alloydb",
    "azure_",
    "neon_",
    "supabase_",
    "aiven_",
    "_aiven_",
];

/// One role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// `SUPERUSER`.
    pub is_superuser: bool,
    /// `INHERIT`.
    pub inherits: bool,
    /// `CREATEROLE`.
    pub creates_roles: bool,
    /// `CREATEDB`.
    pub creates_databases: bool,
    /// `LOGIN`.
    pub logs_in: bool,
    /// `REPLICATION`.
    pub replicates: bool,
    /// `BYPASSRLS`.
    pub bypasses_row_security: bool,
    /// `CONNECTION LIMIT`; -1 is none.
    pub connection_limit: i32,
    /// `VALID UNTIL`.
    pub valid_until: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// What the server stores of its password, where it can be read and there is one.
    pub verifier: Option<Secret>,
    /// Whether it is a provider's own.
    pub is_providers: bool,
}

/// One role's membership in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The role that is granted.
    pub role: String,
    /// Whom to.
    pub member: String,
    /// By whom; none where that role is gone.
    pub grantor: Option<String>,
    /// `ADMIN`.
    pub admin: bool,
    /// `INHERIT` (16 and newer).
    pub inherit: Option<bool>,
    /// `SET` (16 and newer).
    pub set: Option<bool>,
}

/// A setting that sessions of a role, of the database or of both begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultSetting {
    /// The role; none: every role.
    pub role: Option<String>,
    /// Whether it counts in the copied database alone.
    pub in_database: bool,
    /// The setting.
    pub name: String,
    /// Its value, as the server keeps it.
    pub value: String,
}

/// One right on the database itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseRight {
    /// Who has it; none: everybody.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub right: String,
    /// Whether it may be passed on.
    pub is_grantable: bool,
}

/// A right on a setting that only superusers would have otherwise (15 and newer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterRight {
    /// The setting.
    pub parameter: String,
    /// Who has it; none: everybody.
    pub grantee: Option<String>,
    /// `SET` or `ALTER SYSTEM`.
    pub right: String,
    /// Whether it may be passed on.
    pub is_grantable: bool,
}

/// The database as an object of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseObject {
    /// Its owner.
    pub owner: String,
    /// Its comment.
    pub comment: Option<String>,
    /// Who may do what with it; none: the defaults.
    pub rights: Option<Vec<DatabaseRight>>,
}

/// Everything above databases that a copy needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// Every role but PostgreSQL's own (`pg_...`).
    pub roles: Vec<Role>,
    /// Who is a member of what.
    pub memberships: Vec<Membership>,
    /// What sessions begin with.
    pub settings: Vec<DefaultSetting>,
    /// Who may set what.
    pub parameter_rights: Vec<ParameterRight>,
    /// The database.
    pub database: DatabaseObject,
    /// The cluster's first superuser, who owns all that is built in.
    pub first_superuser: String,
    /// Whether passwords can be read at all.
    pub verifiers_readable: bool,
}

const ROLES: &str = "SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, \
     rolbypassrls, rolconnlimit, rolvaliduntil, shobj_description(oid, 'pg_authid') \
     FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' ORDER BY rolname";

/// The first superuser has the number 10 (`BOOTSTRAP_SUPERUSERID`).
const FIRST_SUPERUSER: &str = "SELECT rolname FROM pg_roles WHERE oid = 10";

const VERIFIERS: &str = "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL";

const MEMBERSHIPS: &str = "SELECT r.rolname, m.rolname, g.rolname, a.admin_option, \
     to_jsonb(a)->>'inherit_option', to_jsonb(a)->>'set_option' \
     FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member \
     LEFT JOIN pg_roles g ON g.oid = a.grantor \
     WHERE m.rolname NOT LIKE 'pg\\_%' ORDER BY 1, 2, 3";

const SETTINGS: &str = "SELECT r.rolname, s.setdatabase <> 0, \
     split_part(c.entry, '=', 1), substr(c.entry, strpos(c.entry, '=') + 1) \
     FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole \
     CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY AS c(entry, place) \
     WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
     AND (s.setrole = 0 OR r.rolname IS NOT NULL) ORDER BY 1 NULLS FIRST, 2, c.place";

const DATABASE: &str = "SELECT pg_get_userbyid(datdba), shobj_description(oid, 'pg_database'), datacl IS NOT NULL \
     FROM pg_database WHERE datname = current_database()";

const RIGHTS: &str = "SELECT r.rolname, a.privilege_type, a.is_grantable FROM pg_database d \
     CROSS JOIN LATERAL aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee \
     WHERE d.datname = current_database() AND (a.grantee = 0 OR r.rolname IS NOT NULL) ORDER BY 1 NULLS FIRST, 2";

/// Before 15 there are none.
const HAS_PARAMETER_RIGHTS: &str = "SELECT to_regclass('pg_catalog.pg_parameter_acl') IS NOT NULL";

const PARAMETER_RIGHTS: &str = "SELECT p.parname, r.rolname, a.privilege_type, a.is_grantable FROM pg_parameter_acl p \
     CROSS JOIN LATERAL aclexplode(p.paracl) a LEFT JOIN pg_roles r ON r.oid = a.grantee \
     WHERE (a.grantee = 0 OR r.rolname IS NOT NULL) AND a.grantee <> 10 ORDER BY 1, 2 NULLS FIRST, 3";

impl Roles {
    /// Reads them in the session's transaction.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(session: &Session) -> Result<Self, SourceError> {
        let own = row(session, "session user", "SELECT session_user")
            .await?
            .text(0)?;
        let found = rows(session, "roles", ROLES).await?;
        let mut roles = found
            .iter()
            .map(|row| read_role(row, &own))
            .collect::<Result<Vec<_>, _>>()?;
        let asked = "SELECT has_table_privilege('pg_authid', 'SELECT')";
        let verifiers_readable = row(session, "roles", asked).await?.is(0);
        if verifiers_readable {
            read_verifiers(session, &mut roles).await?;
        }
        let memberships = rows(session, "memberships", MEMBERSHIPS).await?;
        let settings = rows(session, "settings of roles", SETTINGS).await?;
        Ok(Self {
            roles,
            memberships: memberships
                .iter()
                .map(read_membership)
                .collect::<Result<_, _>>()?,
            settings: settings
                .iter()
                .map(read_setting)
                .collect::<Result<_, _>>()?,
            parameter_rights: read_parameter_rights(session).await?,
            database: read_database(session).await?,
            first_superuser: row(session, "roles", FIRST_SUPERUSER).await?.text(0)?,
            verifiers_readable,
        })
    }
}

/// Whether a provider keeps a role of this name for itself.
pub fn is_providers(name: &str) -> bool {
    PROVIDER_NAMES.contains(&name)
        || PROVIDER_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn read_role(row: &Answer, own: &str) -> Result<Role, SourceError> {
    let name = row.text(0)?;
    Ok(Role {
        // Whoever logs in as such a role has it for an application of theirs.
        is_providers: is_providers(&name) && name != own,
        is_superuser: row.is(1),
        inherits: row.is(2),
        creates_roles: row.is(3),
        creates_databases: row.is(4),
        logs_in: row.is(5),
        replicates: row.is(6),
        bypasses_row_security: row.is(7),
        connection_limit: row.number(8)?,
        valid_until: row.get(9).map(str::to_owned),
        comment: row.get(10).map(str::to_owned),
        verifier: None,
        name,
    })
}

async fn read_verifiers(session: &Session, roles: &mut [Role]) -> Result<(), SourceError> {
    for found in rows(session, "roles", VERIFIERS).await? {
        let role = roles
            .iter_mut()
            .find(|role| Some(role.name.as_str()) == found.get(0));
        if let Some(role) = role {
            role.verifier = found.get(1).map(Secret::new);
        }
    }
    Ok(())
}

fn read_membership(row: &Answer) -> Result<Membership, SourceError> {
    let option = |column| row.get(column).map(|value| value == "true");
    Ok(Membership {
        role: row.text(0)?,
        member: row.text(1)?,
        grantor: row.get(2).map(str::to_owned),
        admin: row.is(3),
        inherit: option(4),
        set: option(5),
    })
}

fn read_setting(row: &Answer) -> Result<DefaultSetting, SourceError> {
    Ok(DefaultSetting {
        role: row.get(0).map(str::to_owned),
        in_database: row.is(1),
        name: row.text(2)?,
        value: row.text(3)?,
    })
}

async fn read_parameter_rights(session: &Session) -> Result<Vec<ParameterRight>, SourceError> {
    let what = "rights on settings";
    if !row(session, what, HAS_PARAMETER_RIGHTS).await?.is(0) {
        return Ok(Vec::new());
    }
    let found = rows(session, what, PARAMETER_RIGHTS).await?;
    let right = |row: &Answer| {
        Ok(ParameterRight {
            parameter: row.text(0)?,
            grantee: row.get(1).map(str::to_owned),
            right: row.text(2)?,
            is_grantable: row.is(3),
        })
    };
    found.iter().map(right).collect()
}

async fn read_database(session: &Session) -> Result<DatabaseObject, SourceError> {
    let head = row(session, "database", DATABASE).await?;
    let rights = if head.is(2) {
        let found = rows(session, "rights on the database", RIGHTS).await?;
        let right = |row: &Answer| {
            Ok(DatabaseRight {
                grantee: row.get(0).map(str::to_owned),
                right: row.text(1)?,
                is_grantable: row.is(2),
            })
        };
        Some(
            found
                .iter()
                .map(right)
                .collect::<Result<_, SourceError>>()?,
        )
    } else {
        None
    };
    Ok(DatabaseObject {
        owner: head.text(0)?,
        comment: head.get(1).map(str::to_owned),
        rights,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_roles_are_told_from_customers() {
        for name in [
            "rdsadmin",
            "rds_superuser",
            "cloudsqlsuperuser",
            "azure_pg_admin",
            "neon_superuser",
        ] {
            assert!(is_providers(name), "{name}");
        }
        for name in [
            "postgres",
            "rds",
            "app",
            "azure",
            "doadmin",
            "authenticator",
        ] {
            assert!(!is_providers(name), "{name}");
        }
    }
}
