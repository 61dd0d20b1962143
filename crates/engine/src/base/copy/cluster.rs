//! The cluster that becomes a base: made, started, prepared, stopped cleanly.
//!
//! Owns the order of these and the settings that the source's applications notice, each tried on the new server before
//! it is believed. Leaves roles, database and data to their files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::Secret;
use tokio_postgres::SimpleQueryMessage;

use super::CopyRequest;
use super::database::MAINTENANCE;
use super::error::CopyError;
use super::plan::Plan;
use crate::base::libraries;
use crate::postgres::connect::{Session, connect_local};
use crate::postgres::control_data;
use crate::postgres::initdb::{ADMIN_ROLE, create_cluster};
use crate::postgres::server::{Launch, StopMode, Unready, start};
use crate::postgres::settings::{Purpose, SemanticSettings, ServerSettings};
use crate::postgres::{password, sql};

/// What a base answers to `SHOW cluster_name` while it is made.
const IDENTITY: &str = "bough-base";

/// A base's server under copy. Dropping it ends the server.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    request: &'a CopyRequest<'a>,
    server: Unready,
    pub(super) admin_password: Secret,
    /// The source's settings that hold here.
    pub(super) settings: SemanticSettings,
}

impl<'a> Cluster<'a> {
    /// Makes a cluster and starts its server, with the libraries that the source's extensions must find loaded.
    ///
    /// # Errors
    /// [`CopyError`]; extensions that are missing are named.
    pub(super) async fn make(
        request: &'a CopyRequest<'a>,
        plan: &Plan<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Self, CopyError> {
        let superuser = &plan.roles.first_superuser;
        let data = request.data();
        let first_password = create_cluster(plan.server, request.account, &data, superuser).await?;
        let mut server = launch(request, plan, SemanticSettings::new()).await?;
        let admin_password = make_admin(request, superuser, first_password).await?;
        let admin = connect(request, MAINTENANCE, &admin_password).await?;
        let available = available_extensions(&admin).await?;
        if request.copies_extensions() && !plan.selection.selects_extensions {
            check_extensions(plan, &available, notes)?;
        }
        let mut settings = try_settings(&admin, plan, notes).await?;
        drop(admin);
        let preloaded = preload(plan, &available);
        if !preloaded.is_empty() && request.copies_extensions() {
            settings.extend(preloaded.clone());
            server.stop(StopMode::Fast).await?;
            server = launch(request, plan, preloaded).await?;
        }
        Ok(Self {
            request,
            server,
            admin_password,
            settings,
        })
    }

    /// Connects to a database of the base.
    ///
    /// # Errors
    /// [`CopyError::Connect`].
    pub(super) async fn connect(&self, database: &str) -> Result<Session, CopyError> {
        connect(self.request, database, &self.admin_password).await
    }

    /// Stops the server and makes sure that the base starts without recovery.
    ///
    /// # Errors
    /// [`CopyError::NotSealed`] when it does not.
    pub(super) async fn seal(self) -> Result<(Secret, SemanticSettings), CopyError> {
        self.server.stop(StopMode::Fast).await?;
        if !control_data::read(&self.request.data())?.is_shut_down {
            return Err(CopyError::NotSealed);
        }
        Ok((self.admin_password, self.settings))
    }
}

async fn connect(
    request: &CopyRequest<'_>,
    database: &str,
    password: &Secret,
) -> Result<Session, CopyError> {
    let connected = connect_local(request.socket_dir, database, ADMIN_ROLE, password).await;
    connected.map_err(CopyError::Connect)
}

/// Makes the role that we go on as. The first superuser is the source's from here on.
async fn make_admin(
    request: &CopyRequest<'_>,
    superuser: &str,
    first_password: Secret,
) -> Result<Secret, CopyError> {
    if superuser == ADMIN_ROLE {
        return Ok(first_password);
    }
    let connected =
        connect_local(request.socket_dir, MAINTENANCE, superuser, &first_password).await;
    let first = connected.map_err(CopyError::Connect)?;
    let admin_password = password::generate();
    let statement = format!(
        "CREATE ROLE {} WITH SUPERUSER LOGIN PASSWORD {}",
        sql::ident(ADMIN_ROLE),
        sql::literal(password::verifier(&admin_password).reveal())
    );
    let made = first.batch_execute(&statement).await;
    made.map_err(|source| CopyError::of_base("make an administrator", source))?;
    Ok(admin_password)
}

async fn launch(
    request: &CopyRequest<'_>,
    plan: &Plan<'_>,
    semantic: SemanticSettings,
) -> Result<Unready, CopyError> {
    let settings = ServerSettings {
        purpose: Purpose::Base,
        socket_dir: request.socket_dir.to_owned(),
        identity: IDENTITY.to_owned(),
        semantic,
    };
    let log: PathBuf = request.directory.join("server.log");
    let started = start(&Launch {
        installation: plan.server,
        account: request.account,
        data: &request.data(),
        log: &log,
        settings: &settings,
    })
    .await?;
    Ok(Unready::new(started))
}

async fn available_extensions(admin: &Session) -> Result<BTreeMap<String, String>, CopyError> {
    let asked = "SELECT name::text, default_version FROM pg_catalog.pg_available_extensions";
    let found = admin.query(asked, &[]).await;
    let found = found.map_err(|source| CopyError::of_base("list extensions", source))?;
    Ok(found.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn check_extensions(
    plan: &Plan<'_>,
    available: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Result<(), CopyError> {
    let mut missing = Vec::new();
    for extension in &plan.facts.extensions {
        match available.get(&extension.name) {
            None => missing.push(extension.name.clone()),
            Some(version) if *version != extension.version => notes.push(format!(
                "the extension {} has version {version} here and {} on the source",
                extension.name, extension.version
            )),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(CopyError::Extensions {
        major: plan.major(),
        names: missing,
    })
}

/// Settings that load the libraries of the source's extensions.
fn preload(plan: &Plan<'_>, available: &BTreeMap<String, String>) -> SemanticSettings {
    let is_used = |name: &str| {
        let on_source = plan
            .facts
            .extensions
            .iter()
            .any(|extension| extension.name == name);
        on_source && available.contains_key(name)
    };
    libraries::needed_by_extensions(is_used, &plan.facts.database)
}

/// Tries each of the source's settings here: a locale may be missing, a library may lack a method.
async fn try_settings(
    admin: &Session,
    plan: &Plan<'_>,
    notes: &mut Vec<String>,
) -> Result<SemanticSettings, CopyError> {
    let mut kept = SemanticSettings::new();
    for (name, value) in &plan.facts.settings {
        // Less than our own servers need is no difference that an application could notice.
        if name == "wal_level" && value != "logical" {
            continue;
        }
        // A setting of the start alone cannot be tried; those in our list are numbers and words of every version.
        let query = format!(
            "SELECT CASE WHEN context IN ('user', 'superuser') THEN set_config(name, {value}, false) END \
             FROM pg_catalog.pg_settings WHERE name = {name}",
            name = sql::literal(name),
            value = sql::literal(value)
        );
        let tried = admin.simple_query(&query).await;
        let is_known = |messages: &Vec<SimpleQueryMessage>| {
            messages
                .iter()
                .any(|message| matches!(message, SimpleQueryMessage::Row(_)))
        };
        match tried {
            Ok(messages) if is_known(&messages) => {
                kept.insert(name.clone(), value.clone());
            }
            Ok(_) => notes.push(format!("PostgreSQL {} has no setting {name}", plan.major())),
            Err(source) if source.as_db_error().is_some() => notes.push(format!(
                "the setting {name} = {value:?} of the source is not possible here, and has its default"
            )),
            Err(source) => return Err(CopyError::of_base("try settings", source)),
        }
    }
    Ok(kept)
}
