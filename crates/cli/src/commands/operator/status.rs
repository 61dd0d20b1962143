//! `bough operator status`: what there is of Bough in a cluster, and how it stands.

use clap::Args;
use model::{ExitCode, Namespace};
use operator::{HostStanding, SessionStanding, Standing, StandingError};

use super::choose_context;
use crate::contexts;
use crate::engine_words;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Table, Ui};

const EXAMPLES: &str = "\
Examples:
  bough operator status
  bough operator status -n metalmart -o json";

/// Show the operators and who leads, sources, branch hosts with their branches, bases and volumes, agents and sessions
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    /// Hosts and agents of this namespace alone [default: of the whole cluster]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<Namespace>,

    /// The kubeconfig's context [default: MIRRORD_KUBE_CONTEXT, else its current one]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows it.
pub(super) async fn run(
    args: &StatusArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let context = choose_context(args.context.as_deref(), settings)?;
    let client = contexts::client_of(&context).await?;
    let namespace = args.namespace.as_ref().map(Namespace::as_str);
    let standing = operator::standing(&client, namespace)
        .await
        .map_err(refused)?;
    ui.report(&standing, args.output)?;
    Ok(())
}

fn refused(error: StandingError) -> CommandError {
    let right = error.right.clone();
    CommandError::new(ExitCode::Target, error).with_hint(format!(
        "this takes the right to {right}; `-n NAMESPACE` asks about one namespace"
    ))
}

impl Report for Standing {
    fn text(&self, page: Page) -> String {
        let mut text = String::new();
        if self.operators.is_empty() {
            text.push_str("No operator is installed where you may look.\n");
        } else {
            let mut table = Table::new(page, &["NAMESPACE", "OPERATOR", "STATE", "LEADS", "IMAGE"]);
            for it in &self.operators {
                let state = it.unready.as_deref().unwrap_or("Ready").to_owned();
                let leads = if it.leads { "yes" } else { "no" }.to_owned();
                table.row([
                    it.namespace.clone(),
                    it.pod.clone(),
                    state,
                    leads,
                    it.image.clone().unwrap_or_default(),
                ]);
            }
            text.push_str(&table.text());
        }
        if !self.sources.is_empty() {
            let mut table = Table::new(page, &["NAMESPACE", "SOURCE", "HOSTS", "STATE", "MESSAGE"]);
            for it in &self.sources {
                table.row([
                    it.namespace.clone(),
                    it.name.clone(),
                    it.ready.clone().unwrap_or_default(),
                    it.state.clone().unwrap_or_default(),
                    it.message.clone().unwrap_or_default(),
                ]);
            }
            text.push('\n');
            text.push_str(&table.text());
        }
        if !self.hosts.is_empty() {
            let header = [
                "NAMESPACE",
                "HOST",
                "STATE",
                "BRANCHES",
                "BASES",
                "FREE",
                "VOLUME",
            ];
            let mut table = Table::new(page, &header);
            for it in &self.hosts {
                table.row(host(it));
            }
            text.push('\n');
            text.push_str(&table.text());
        }
        text.push_str(&agents_and_sessions(self, page));
        text
    }
}

/// The tables of agents and of sessions, each after an empty line.
fn agents_and_sessions(standing: &Standing, page: Page) -> String {
    let mut text = String::new();
    if !standing.agents.is_empty() {
        let mut table = Table::new(page, &["NAMESPACE", "POD", "AGENT", "BESIDE"]);
        for it in &standing.agents {
            table.row([
                it.namespace.clone(),
                it.pod.clone(),
                it.container.clone(),
                it.target.clone().unwrap_or_default(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if !standing.sessions.is_empty() {
        let header = [
            "NAMESPACE",
            "SESSION",
            "STATE",
            "TARGET",
            "REQUESTER",
            "PODS",
        ];
        let mut table = Table::new(page, &header);
        for it in &standing.sessions {
            table.row(session(it));
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}

fn session(session: &SessionStanding) -> [String; 6] {
    let state = match &session.message {
        Some(why) => format!("{}: {why}", session.phase),
        None => session.phase.to_owned(),
    };
    [
        session.namespace.clone(),
        session.session.clone(),
        state,
        session.target.clone(),
        session.requester.clone().unwrap_or_default(),
        session.pods.join(", "),
    ]
}

fn host(host: &HostStanding) -> [String; 7] {
    let engine = host.engine.as_ref();
    [
        host.namespace.clone(),
        host.pod.clone(),
        host.unready.as_deref().unwrap_or("Ready").to_owned(),
        format!("{} of {} ready", host.branches_ready, host.branches),
        engine.map(|it| it.bases.to_string()).unwrap_or_default(),
        engine
            .map(|it| engine_words::free(&it.volume))
            .unwrap_or_default(),
        engine
            .map(|it| it.volume.kind.to_string())
            .unwrap_or_default(),
    ]
}
