//! `db-branches create`: a branch of a source, without target or file.

use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use model::engine_api::{BranchView, EnsureBranch, SourceName, SourceRef};
use model::{BranchId, CopyMode, CopySpec, ExitCode, Namespace, PgMajor, PgUrl, Secret, Ttl};
use serde::Serialize;

use super::url::Led;
use crate::branch_door;
use crate::branch_words;
use crate::commands::engines::Whose;
use crate::commands::select::Scope;
use crate::contexts::{self, BranchHost, BranchWish, Kubeconfig};
use crate::engine_client::EngineClient;
use crate::error::CommandError;
use crate::readiness;
use crate::settings::Settings;
use crate::source_arg::{self, SourceArgError};
use crate::ui::{Format, Page, Report, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough db-branches create try-it --source inventory
  bough db-branches create try-it --source - < url.txt
  eval \"$(bough db-branches --context local create ci-7 --source inventory --copy schema -o env)\"

The URL that `-o env` and `-o json` give holds the password. In a cluster it names a port of this machine that leads to
the branch until the command is ended.";

/// Make a branch of a source, or find the living one of this id
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CreateArgs {
    /// The branch is found again by this
    id: BranchId,

    /// A source's name, its URL, or `-` for a URL on standard input [default: BOUGH_SOURCE_URL]
    #[arg(long, value_name = "URL|NAME")]
    source: Option<String>,

    /// What is copied
    #[arg(long, value_parser = copy_mode(), default_value_t = CopyMode::All)]
    copy: CopyMode,

    /// Major version of the branch [default: the source's]
    #[arg(long, value_name = "MAJOR")]
    version: Option<PgMajor>,

    /// Seconds that the branch lives after it was made or its last session left [default: those of the
    /// branch that is found, 300 for a new one]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..))]
    ttl: Option<u64>,

    /// Accept data of up to this age, without asking whether the source has moved since [default: all that was
    /// committed before this command]
    #[arg(long, value_name = "SECS")]
    max_age: Option<u64>,

    /// Database of the source [default: the one its URL names]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,

    /// Seconds to wait for the branch at most; the copy goes on without us
    #[arg(long, value_name = "SECS", default_value = readiness::WAIT_DEFAULT)]
    wait_timeout: u64,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: CreateFormat,

    /// With `-o env` in a cluster: lead to the branch until Ctrl-C
    #[arg(long)]
    stay: bool,
}

/// Reads a copy mode, and says in the help what each copies.
fn copy_mode() -> impl TypedValueParser<Value = CopyMode> {
    // In the help, what most want comes first.
    let modes = [CopyMode::All, CopyMode::Schema, CopyMode::Empty];
    let words = modes.map(|mode| {
        let copied = match mode {
            CopyMode::All => "Structure and every row",
            CopyMode::Schema => "Structure, no rows",
            CopyMode::Empty => "Nothing",
        };
        PossibleValue::new(mode.as_str()).help(copied)
    });
    PossibleValuesParser::new(words).map(move |word| {
        let mode = modes.into_iter().find(|mode| mode.as_str() == word);
        mode.expect("the parser takes the modes' words alone")
    })
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum CreateFormat {
    /// Sentences for people
    #[default]
    Text,
    /// export DATABASE_URL=... for a shell
    Env,
    /// One JSON document for programs
    Json,
}

/// Why no branch is asked for in a cluster.
#[derive(Debug, thiserror::Error)]
enum ThereError {
    /// The shell that reads the assignment would wait for an end that never comes.
    #[error(
        "in a cluster `-o env` names a port that leads to the branch only while this command runs"
    )]
    Stay,
    /// The version says which image its host runs.
    #[error(
        "`db-branches create` in a cluster needs --version where the namespace has no branch host yet that could ask the \
         source"
    )]
    Version,
    /// Its host has just been made, or is refused by it.
    #[error("the branch host of the source {0} does not know it yet")]
    Unknown(SourceName),
    /// Its host has one version.
    #[error("the source {name} has version {source_has}, and so have its branches")]
    OtherVersion {
        /// The source's name.
        name: SourceName,
        /// The source's version.
        source_has: PgMajor,
    },
}

/// The host of a new branch in a cluster.
///
/// # Errors
/// For what only this machine's branches have, and when no host is to be had.
async fn request_host(
    args: &CreateArgs,
    kubeconfig: &Kubeconfig,
    namespace: &Namespace,
    source: &SourceRef,
    (settings, ui): (&Settings, &Ui),
) -> Result<BranchHost, CommandError> {
    contexts::require_operator(kubeconfig, namespace).await?;
    let (source, version) = match source {
        SourceRef::Url(url) => of_url(args, kubeconfig, namespace, url).await?,
        SourceRef::Name(name) => of_name(args, kubeconfig, namespace, name, (settings, ui)).await?,
    };
    let wish = BranchWish {
        id: args.id.clone(),
        source,
        version,
        copy: copy_of(args),
        ttl: args.ttl.map(Ttl),
        target: None,
    };
    let tell = |line: &str| ui.note(line);
    let host = BranchHost::request_one(kubeconfig, namespace, wish, settings, &tell).await;
    host.map_err(|error| CommandError::from(error).with_exit(ExitCode::Branch))
}

/// What a resource says of a source by its URL, and the version of the branch.
async fn of_url(
    args: &CreateArgs,
    kubeconfig: &Kubeconfig,
    namespace: &Namespace,
    url: &Secret,
) -> Result<(String, PgMajor), CommandError> {
    let url = PgUrl::parse(url.reveal()).map_err(SourceArgError::Url)?;
    let version = match args.version {
        Some(version) => Some(version),
        None => BranchHost::source_version(kubeconfig, namespace, &url).await?,
    };
    let Some(version) = version else {
        let hint = "--version 16, as its source has it";
        return Err(CommandError::new(ExitCode::Usage, ThereError::Version).with_hint(hint));
    };
    let database = args.database.clone().or_else(|| url.database());
    let source = format!("{}/{}", url.address(), database.unwrap_or_default());
    Ok((source, version))
}

/// The same of one that a `Source` names: its host's engine knows the rest.
async fn of_name(
    args: &CreateArgs,
    kubeconfig: &Kubeconfig,
    namespace: &Namespace,
    name: &SourceName,
    (settings, ui): (&Settings, &Ui),
) -> Result<(String, PgMajor), CommandError> {
    let host = BranchHost::of_source(kubeconfig, namespace, name, settings).await?;
    let engine = crate::commands::connect_engine(&host.settings, ui).await?;
    let known = engine.client.sources().await?;
    let known = known.into_iter().find(|it| it.name == *name);
    let refuse = |code, error, hint: String| Err(CommandError::new(code, error).with_hint(hint));
    // The operator names at least one: by it, it knows whose branch this is.
    let address = known.as_ref().and_then(|it| it.addresses.first().cloned());
    let (Some(known), Some(address)) = (known, address) else {
        let hint = format!(
            "`kubectl -n {namespace} describe sources.bough.dev {name}` says how it stands"
        );
        return refuse(ExitCode::Branch, ThereError::Unknown(name.clone()), hint);
    };
    let version = known.version;
    if args.version.is_some_and(|it| it != version) {
        let error = ThereError::OtherVersion {
            name: name.clone(),
            source_has: version,
        };
        let hint = "`--source -` with its URL makes one of another version".to_owned();
        return refuse(ExitCode::Usage, error, hint);
    }
    let database = args.database.clone().unwrap_or(known.database);
    Ok((format!("{address}/{database}"), version))
}

fn copy_of(args: &CreateArgs) -> CopySpec {
    CopySpec {
        mode: args.copy,
        ..CopySpec::default()
    }
}

pub(super) async fn run(
    args: &CreateArgs,
    whose: &Whose,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let namespace = one_namespace(&whose.scope)?;
    if whose.context.kubeconfig.is_some() && args.output == CreateFormat::Env && !args.stay {
        return Err(CommandError::new(ExitCode::Usage, ThereError::Stay).with_hint(
            "`--stay` keeps it running: in the background, with its output in a file; `--context local` makes the branch here",
        ));
    }
    let source = source_arg::resolve(args.source.as_deref(), settings, ui)?;
    let host = match &whose.context.kubeconfig {
        Some(kubeconfig) => {
            Some(request_host(args, kubeconfig, &namespace, &source, (settings, ui)).await?)
        }
        None => None,
    };
    // In a cluster the engine is the host's, behind a socket of this command's own.
    let settings = host.as_ref().map_or(settings, |host| &host.settings);
    let engine = crate::commands::connect_engine(settings, ui).await?;
    let ttl = match args.ttl {
        Some(ttl) => Ttl(ttl),
        None => own_ttl(&engine.client, &namespace, &args.id).await?,
    };
    let wanted = EnsureBranch {
        id: args.id.clone(),
        namespace,
        source,
        proxy: None,
        database: args.database.clone(),
        copy: copy_of(args),
        version: args.version,
        connection_settings: std::collections::BTreeMap::new(),
        ttl,
        max_age_seconds: args.max_age,
        holder: None,
    };
    let ensured = engine.client.ensure_branch(&wanted).await?;
    let limit = Duration::from_secs(args.wait_timeout);
    let branches = readiness::wait_until_ready(settings, ui, vec![ensured.branch], limit).await?;
    let branch = &branches[0];
    let way = branch_door::find_way(host.as_ref(), &engine.client, &branch.name, None).await?;
    let led = match args.output {
        CreateFormat::Text => None,
        CreateFormat::Json | CreateFormat::Env => Led::of(&way)?,
    };
    let url = match &led {
        Some(led) => led.url.reveal(),
        None => way.connection.url.reveal().to_owned(),
    };
    let report = CreateReport {
        reused: ensured.reused,
        branch,
        url: &url,
        is_elsewhere: way.is_led,
    };
    match args.output {
        CreateFormat::Text => ui.report(&report, Format::Text)?,
        CreateFormat::Json => ui.report(&report, Format::Json)?,
        CreateFormat::Env => ui.report(&Assignment(report.url), Format::Text)?,
    }
    if let Some(led) = led {
        led.stay(ui).await;
    }
    Ok(())
}

/// The TTL of whoever names none: the living branch's own, which he asked for earlier.
async fn own_ttl(
    client: &EngineClient,
    namespace: &Namespace,
    id: &BranchId,
) -> Result<Ttl, CommandError> {
    let there = client.branches(Some(namespace)).await?;
    let living = there.iter().find(|branch| branch.id == *id);
    Ok(living.map_or_else(Ttl::default, |branch| branch.ttl_seconds))
}

/// A branch is made in one namespace.
#[derive(Debug, thiserror::Error)]
#[error("a branch is made in one namespace: -A names all")]
struct EveryNamespace;

fn one_namespace(scope: &Scope) -> Result<Namespace, CommandError> {
    match scope {
        Scope::Namespace(namespace) => Ok(namespace.clone()),
        Scope::All => {
            let failure = CommandError::new(ExitCode::Usage, EveryNamespace);
            Err(failure.with_hint("name it with -n"))
        }
    }
}

/// The new branch; the JSON form holds the password.
#[derive(Serialize)]
struct CreateReport<'a> {
    reused: bool,
    url: &'a str,
    branch: &'a BranchView,
    /// Whether its URL means nothing without a program that leads there.
    #[serde(skip)]
    is_elsewhere: bool,
}

impl Report for CreateReport<'_> {
    fn text(&self, page: Page) -> String {
        let branch = self.branch;
        let (id, name, namespace) = (&branch.id, &branch.name, &branch.namespace);
        let came = if self.reused {
            format!(
                "lived already, made {}",
                words::ago(branch.created_at, page.now)
            )
        } else {
            "is ready".to_owned()
        };
        let mut text = format!("Branch {id} ({name}, namespace {namespace}) {came}.\n");
        if let (Ok(url), false) = (PgUrl::parse(self.url), self.is_elsewhere) {
            text.push_str(&format!("  url      {}\n", url.redacted()));
        }
        text.push_str(&format!("  holds    {}\n", branch.spec.copy.describe()));
        if let Some(base) = &branch.base {
            text.push_str(&format!(
                "  fresh    {}\n",
                branch_words::freshness(base, page.now)
            ));
            if !base.roles_without_password.is_empty() {
                let roles = base.roles_without_password.join(", ");
                text.push_str(&format!(
                    "  refuses  {roles}: passwords that cannot be read\n"
                ));
            }
            for note in &base.notes {
                text.push_str(&format!("  note     {note}\n"));
            }
        }
        text.push_str(&format!(
            "  lives    {}\n",
            branch_words::life(branch, page.now)
        ));
        let word = words::shell_word(id.as_str());
        text.push_str(&format!(
            "  connect  bough db-branches -n {namespace} psql {word}\n"
        ));
        text.push_str(&format!(
            "  delete   {}\n",
            branch_words::destroy_command(branch)
        ));
        text
    }
}

/// A shell's assignment of the branch's URL.
#[derive(Serialize)]
struct Assignment<'a>(&'a str);

impl Report for Assignment<'_> {
    fn text(&self, _: Page) -> String {
        // Exported, so that what the shell starts has it.
        format!("export DATABASE_URL={}\n", words::shell_word(self.0))
    }
}
