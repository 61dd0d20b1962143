//! `engine status`: whether it runs, where it works, with what.

use clap::Args;
use model::engine_api::EngineView;
use serde::Serialize;

use crate::engine_start;
use crate::engine_words;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::ui::{Fields, Format, Page, Report, Ui, words};

const EXAMPLES: &str = "\
Examples:
  bough engine status
  bough engine status -o json";

/// Show whether the engine runs, where it works and with which servers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    /// Form of the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(
    args: &StatusArgs,
    settings: &Settings,
    ui: &Ui,
) -> Result<(), CommandError> {
    let found = engine_start::find(settings).await?;
    let report = StatusReport {
        running: found.is_some(),
        socket: settings.engine_socket().display().to_string(),
        engine: found.as_ref().map(|engine| &engine.view),
    };
    ui.report(&report, args.output)?;
    if let Some(notice) = found.and_then(|engine| engine.version_notice()) {
        ui.warn(&notice);
    }
    Ok(())
}

#[derive(Serialize)]
struct StatusReport<'a> {
    running: bool,
    socket: String,
    engine: Option<&'a EngineView>,
}

fn bases(engine: &EngineView) -> String {
    match engine.superseded_bases {
        0 => engine.bases.to_string(),
        superseded => format!(
            "{}, {superseded} of them superseded ({})",
            engine.bases, engine.superseded_bytes
        ),
    }
}

impl Report for StatusReport<'_> {
    fn text(&self, page: Page) -> String {
        let Some(engine) = self.engine else {
            return format!("The engine of {} is not running.\n", self.socket);
        };
        let mut fields = Fields::new();
        fields.field(
            "Engine",
            format!("bough {}, pid {}", engine.version, engine.pid),
        );
        fields.field("Started", words::ago(engine.started_at, page.now));
        fields.field("Socket", self.socket.as_str());
        fields.field("Data", engine.data_dir.as_str());
        let volume = &engine.volume;
        fields.field("Volume", engine_words::volume(volume));
        let (free, floor) = (engine_words::free(volume), volume.floor_bytes);
        fields.field("Room", format!("{free}; below {floor} nothing is copied"));
        let account = engine.server_account.as_deref();
        fields.field("Servers run as", engine_words::account(account));
        fields.field("Servers reach", engine_words::egress(engine));
        let branches = format!("{} of {} at most", engine.branches, engine.branches_max);
        fields.field("Branches", branches);
        fields.field("Bases", bases(engine));
        fields.field("Warm clones", engine.warm_clones.to_string());
        fields.field("Followers", engine.followers.to_string());
        for left in &engine.slots_left {
            fields.field("Left on a source", left.as_str());
        }
        fields.field("Longest TTL", words::span(engine.ttl_max_seconds.0));
        let found = engine_words::installations(&engine.installations);
        let none = "none; `bough doctor` says where was looked".to_owned();
        fields.field("PostgreSQL", if found.is_empty() { none } else { found });
        fields.text()
    }
}
