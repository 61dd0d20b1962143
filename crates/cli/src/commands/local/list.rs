//! `local ls`: the targets of this machine, and how they are.

use clap::Args;
use model::{ExitCode, Namespace};
use serde::Serialize;

use crate::contexts::local::{self, TargetNetwork, TargetReport};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Table, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough local ls
  bough local ls -n metalmart -o json";

/// List targets
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(
    args: &ListArgs,
    namespace: Option<&Namespace>,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let targets = local::list(&settings.data_dir, namespace)
        .map_err(|error| CommandError::new(ExitCode::Internal, error))?;
    let rows = targets.into_iter().map(TargetRow::from).collect();
    ui.report(&TargetList(rows), args.output)?;
    Ok(())
}

/// A target with the one word that other commands take for it.
#[derive(Serialize)]
struct TargetRow {
    target: String,
    #[serde(flatten)]
    report: TargetReport,
}

impl From<TargetReport> for TargetRow {
    fn from(report: TargetReport) -> Self {
        Self {
            target: format!("{}/{}", report.kind, report.name),
            report,
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct TargetList(Vec<TargetRow>);

impl Report for TargetList {
    fn text(&self, page: Page) -> String {
        if self.0.is_empty() {
            return "No target; `bough local run KIND/NAME -- COMMAND` starts one.\n".to_owned();
        }
        let header = [
            "TARGET",
            "NAMESPACE",
            "STATE",
            "PID",
            "PORTS",
            "STARTED",
            "PROGRAM",
        ];
        let mut table = Table::new(page, &header);
        for TargetRow { target, report } in &self.0 {
            let ports: Vec<_> = report
                .ports
                .iter()
                .map(|port| show_port(*port, &report.network))
                .collect();
            table.row([
                target.clone(),
                report.namespace.to_string(),
                report.state.to_string(),
                report.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                ports.join(","),
                words::ago(report.started_at, page.now),
                report.program.clone(),
            ]);
        }
        table.text()
    }
}

/// A port of the target; with the one of this machine that leads to it, where that is another: `18082:8082`.
fn show_port(port: u16, network: &TargetNetwork) -> String {
    let published = match network {
        TargetNetwork::Own { published } => published.as_slice(),
        TargetNetwork::Shared { .. } => &[],
    };
    let elsewhere = published
        .iter()
        .find(|published| published.port == port && published.host.port() != port);
    match elsewhere {
        Some(published) => format!("{}:{port}", published.host.port()),
        None => port.to_string(),
    }
}
