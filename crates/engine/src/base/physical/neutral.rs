//! Making a copy of a whole cluster harmless: what would act by itself stops, what would open a door is closed.
//!
//! | what the copy has | what becomes of it |
//! |---|---|
//! | what every branch forgets | `base::forgotten` |
//! | roles and their passwords | stay: they go on working; a role of ours is added |
//! | archiving, workers of subscriptions | off, by the command line |
//! | event triggers, triggers | stay, and are not set off by what is done here |
//! | prepared transactions | rolled back: whoever would finish them is not here |
//! | other databases | take no connections |
//! | unlogged tables | empty, as after any crash |
//!
//! Owns the statements' order, few and in one transaction, for a request may wait for them. What has no `ALTER` that
//! fires no event trigger, or only one within its own database, is written into the catalogue: a superuser may. Leaves
//! the configuration to `settings` and the egress to whoever owns the network.

use model::Secret;
use tokio_postgres::SimpleQueryRow;

use super::control;
use crate::base::forgotten::{
    DELETE_MAPPINGS, DELETE_MAPPINGS_DEPENDENCIES, HAS_JOBS, INACTIVE_JOBS, STOP_JOBS,
    STOP_SUBSCRIPTIONS,
};
use crate::postgres::connect::{ConnectError, Session};
use crate::postgres::initdb::ADMIN_ROLE;
use crate::postgres::{password, sql};

/// Objects that a note names; the rest is counted.
const NAMED_MAX: usize = 5;

/// Why a copy is not neutral, and must not be handed out.
#[derive(Debug, thiserror::Error)]
pub enum NeutralError {
    /// It refused a statement.
    #[error("cannot {what}")]
    Statement {
        /// What was tried.
        what: &'static str,
        /// What it said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Another database of the cluster could not be entered to roll a prepared transaction back.
    #[error("cannot enter the database {database:?} to roll back a prepared transaction")]
    Enter {
        /// The database.
        database: String,
        /// Why.
        #[source]
        source: ConnectError,
    },
}

/// What a copy is to become.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The one database that takes connections.
    pub database: String,
    /// What the server stores of our role's password.
    pub admin_verifier: Secret,
    /// The source's user and what is stored of its password, for a source that does not know the password itself.
    pub user: Option<(String, Secret)>,
}

impl Wanted {
    /// A branch of `database`, with a new password for our role. Computing what is stored takes milliseconds: do it
    /// before a request waits.
    pub fn new(database: &str, user: &str, user_password: Option<&Secret>) -> (Self, Secret) {
        let admin_password = password::generate();
        let user = user_password.map(|secret| (user.to_owned(), password::verifier(secret)));
        let wanted = Self {
            database: database.to_owned(),
            admin_verifier: password::verifier(&admin_password),
            user,
        };
        (wanted, admin_password)
    }
}

/// What can be asked of a server in recovery already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Survey {
    has_admin: bool,
    has_jobs: bool,
    /// Whether the source's user logs in and has no password stored.
    lacks_password: bool,
}

/// What was found in a copy and done to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// The database's owner.
    pub owner: String,
    /// Login roles whose passwords go on working.
    pub roles_with_verifier: Vec<String>,
    /// Login roles that have no password.
    pub roles_without_password: Vec<String>,
    /// What is otherwise than on the source, a sentence each.
    pub notes: Vec<String>,
}

/// Asks what the statements depend on.
///
/// # Errors
/// [`NeutralError`].
pub async fn survey(session: &Session, wanted: &Wanted) -> Result<Survey, NeutralError> {
    let user = wanted.user.as_ref().map_or("", |(user, _)| user);
    let query = format!(
        "SELECT EXISTS (SELECT FROM pg_authid WHERE rolname = {admin}), \
         {HAS_JOBS}, \
         EXISTS (SELECT FROM pg_authid WHERE rolname = {user} AND rolcanlogin AND rolpassword IS NULL)",
        admin = sql::literal(ADMIN_ROLE),
        user = sql::literal(user),
    );
    let found = ask(session, "look at the copy", &query).await?;
    let is = |column| {
        found
            .first()
            .is_some_and(|row| control::text(row, column) == "t")
    };
    Ok(Survey {
        has_admin: is(0),
        has_jobs: is(1),
        lacks_password: is(2),
    })
}

/// Rolls prepared transactions back, in whichever database they are; answers how many. They hold locks that would stop
/// what comes next. `enter` opens a session in another database.
///
/// # Errors
/// [`NeutralError`].
pub async fn roll_back_prepared<F>(
    session: &Session,
    database: &str,
    enter: impl Fn(String) -> F,
) -> Result<usize, NeutralError>
where
    F: Future<Output = Result<Session, ConnectError>>,
{
    let what = "roll prepared transactions back";
    let query = "SELECT gid, database FROM pg_prepared_xacts";
    let prepared = ask(session, what, query).await?;
    for row in &prepared {
        let statement = format!("ROLLBACK PREPARED {}", sql::literal(control::text(row, 0)));
        let its_database = control::text(row, 1).to_owned();
        if its_database == database {
            ask(session, what, &statement).await?;
            continue;
        }
        let entered = enter(its_database.clone()).await;
        let entered = entered.map_err(|source| NeutralError::Enter {
            database: its_database,
            source,
        })?;
        ask(&entered, what, &statement).await?;
    }
    Ok(prepared.len())
}

/// Makes the copy neutral, in one round trip. It takes writes by now.
///
/// # Errors
/// [`NeutralError`]; the copy is as it was.
pub async fn neutralise(
    session: &Session,
    wanted: &Wanted,
    survey: Survey,
) -> Result<Done, NeutralError> {
    let found = ask(
        session,
        "make the copy neutral",
        &statements(wanted, survey),
    )
    .await?;
    let mut done = Done::default();
    done.take(&found);
    Ok(done)
}

/// What is done and what was found, a row each: what it is, its name, and one thing of it.
fn statements(wanted: &Wanted, survey: Survey) -> String {
    let mut all = vec!["BEGIN".to_owned(), admin(wanted, survey)];
    if let Some((user, verifier)) = wanted.user.as_ref().filter(|_| survey.lacks_password) {
        let (user, verifier) = (sql::ident(user), sql::literal(verifier.reveal()));
        all.push(format!("ALTER ROLE {user} PASSWORD {verifier}"));
    }
    let database = sql::literal(&wanted.database);
    all.push(format!(
        "UPDATE pg_database SET datallowconn = false WHERE datallowconn AND datname <> {database}"
    ));
    all.push(format!(
        "WITH off AS ({STOP_SUBSCRIPTIONS}) \
         SELECT 'subscription', subname FROM off JOIN pg_database d ON d.oid = subdbid \
         WHERE d.datname = current_database()"
    ));
    all.push(format!(
        "WITH gone AS ({DELETE_MAPPINGS}) \
         SELECT DISTINCT 'mapping', s.srvname FROM gone JOIN pg_foreign_server s ON s.oid = umserver"
    ));
    all.extend(DELETE_MAPPINGS_DEPENDENCIES.map(str::to_owned));
    if survey.has_jobs {
        all.push(format!(
            "WITH off AS ({STOP_JOBS}) SELECT 'job', 'a job' FROM off"
        ));
    }
    all.push("COMMIT".to_owned());
    all.push(format!(
        "SELECT 'login', rolname, rolpassword IS NOT NULL FROM pg_authid \
         WHERE rolcanlogin AND rolname <> {} ORDER BY 2",
        sql::literal(ADMIN_ROLE)
    ));
    all.push(
        "SELECT 'owner', pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
            .to_owned(),
    );
    all.push(
        "SELECT 'unlogged', format('%I.%I', n.nspname, c.relname) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relpersistence = 'u' AND c.relkind = 'r' ORDER BY 2"
            .to_owned(),
    );
    all.join("; ")
}

/// Our role. A source that is a branch itself has one of this name: it becomes ours.
fn admin(wanted: &Wanted, survey: Survey) -> String {
    let verb = if survey.has_admin { "ALTER" } else { "CREATE" };
    format!(
        "{verb} ROLE {} SUPERUSER LOGIN CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD {}",
        sql::ident(ADMIN_ROLE),
        sql::literal(wanted.admin_verifier.reveal())
    )
}

impl Done {
    fn take(&mut self, found: &[SimpleQueryRow]) {
        let named = |kind: &str| -> Vec<String> {
            let of_kind = found.iter().filter(|row| control::text(row, 0) == kind);
            of_kind
                .map(|row| control::text(row, 1).to_owned())
                .collect()
        };
        for row in found.iter().filter(|row| control::text(row, 0) == "login") {
            let name = control::text(row, 1).to_owned();
            if control::text(row, 2) == "t" {
                self.roles_with_verifier.push(name);
            } else {
                self.roles_without_password.push(name);
            }
        }
        self.owner = named("owner").pop().unwrap_or_default();
        let mut note = |kind: &str, sentence: &dyn Fn(String) -> String| {
            let names = named(kind);
            if !names.is_empty() {
                self.notes.push(sentence(list(&names)));
            }
        };
        note("subscription", &|names| {
            format!("the subscriptions {names} were disabled")
        });
        note("mapping", &|names| {
            format!("the user mappings of the foreign servers {names} were dropped")
        });
        note("unlogged", &|names| {
            format!("the unlogged tables {names} are empty")
        });
        if !named("job").is_empty() {
            self.notes.push(INACTIVE_JOBS.to_owned());
        }
    }

    /// Tells of prepared transactions.
    pub(super) fn note_prepared(&mut self, count: usize) {
        if count > 0 {
            self.notes
                .push(format!("{count} prepared transactions were rolled back"));
        }
    }
}

fn list(names: &[String]) -> String {
    let named: Vec<_> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    match names.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

async fn ask(
    session: &Session,
    what: &'static str,
    query: &str,
) -> Result<Vec<SimpleQueryRow>, NeutralError> {
    let asked = control::rows(session, query).await;
    asked.map_err(|source| NeutralError::Statement { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_beyond_a_few() {
        let names: Vec<_> = (1..=7).map(|number| format!("t{number}")).collect();
        assert_eq!(list(&names[..2]), "t1, t2");
        assert_eq!(list(&names), "t1, t2, t3, t4, t5 and 2 more");
    }

    #[test]
    fn only_what_the_server_stores_of_a_password_is_sent() {
        let secret = Secret::new("correct horse");
        let (wanted, admin_password) = Wanted::new("shop", "app", Some(&secret));
        let survey = Survey {
            has_admin: false,
            has_jobs: true,
            lacks_password: true,
        };
        let all = statements(&wanted, survey);
        assert!(!all.contains("correct horse") && !all.contains(admin_password.reveal()));
        assert!(all.contains("ALTER ROLE \"app\" PASSWORD 'SCRAM-SHA-256$"));
        assert!(all.contains("cron.job"));
    }
}
