//! `source ls`: the named databases, without passwords.

use clap::Args;
use model::engine_api::SourceView;
use serde::Serialize;

use crate::commands::connect_engine;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::source_words;
use crate::ui::{Format, Page, Report, Table, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough source ls
  bough source ls -o json";

/// List the named databases
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(args: &ListArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let engine = connect_engine(settings, ui).await?;
    let sources = engine.client.sources().await?;
    ui.report(&SourceList(sources), args.output)?;
    Ok(())
}

/// What is done for a source before anybody asks.
fn kept(source: &SourceView) -> String {
    let refreshed = source
        .refresh_seconds
        .map(|seconds| format!("every {}", words::span(seconds)));
    let warm = (source.warm > 0).then(|| format!("{} warm", source.warm));
    let prepared = source
        .prepare_sha256
        .is_some()
        .then(|| "prepared".to_owned());
    let failed = source.failure.is_some().then(|| "FAILED".to_owned());
    let said: Vec<_> = [warm, refreshed, prepared, failed]
        .into_iter()
        .flatten()
        .collect();
    if said.is_empty() {
        "-".to_owned()
    } else {
        said.join(", ")
    }
}

/// Named databases.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct SourceList(pub(super) Vec<SourceView>);

impl Report for SourceList {
    fn text(&self, page: Page) -> String {
        if self.0.is_empty() {
            return "No source; `bough source add URL` names one.\n".to_owned();
        }
        let mut table = Table::new(
            page,
            &[
                "NAME", "DATABASE", "USER", "VERSION", "BASE", "COPIED", "KEPT", "ADDED", "URL",
            ],
        );
        for source in &self.0 {
            table.row([
                source.name.to_string(),
                source.database.clone(),
                source.user.clone(),
                source.version.to_string(),
                source_words::base(source),
                source
                    .copied_at
                    .map_or_else(|| "-".to_owned(), |then| words::ago(then, page.now)),
                kept(source),
                words::ago(source.added_at, page.now),
                source.url.clone(),
            ]);
        }
        let remarks = self
            .0
            .iter()
            .flat_map(|source| source_words::remarks(source, page.now));
        remarks.fold(table.text(), |text, remark| format!("{text}{remark}\n"))
    }
}
