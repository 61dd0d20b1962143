//! `bough ls`: what `--target` could name in a namespace of any context.
//!
//! As JSON the words of mirrord's `ls`, one text a target, so that its editor plugins and scripts can read them.

use std::path::PathBuf;

use clap::Args;
use model::{Namespace, TargetKind};
use serde::Serialize;

use crate::contexts::{self, Listing, TargetEntry};
use crate::error::CommandError;
use crate::session_file;
use crate::settings::Settings;
use crate::ui::{Format, Page, Report, Table, Ui};

const EXAMPLES: &str = "\
Examples:
  bough ls                               of the context's own namespace
  bough ls -n metalmart -t deployment
  bough ls --context local -o json       what runs on this machine, for a program";

/// Kinds that are listed where none is named: those that most people mean, and pods.
const USUAL: [TargetKind; 7] = [
    TargetKind::Deployment,
    TargetKind::Rollout,
    TargetKind::StatefulSet,
    TargetKind::ReplicaSet,
    TargetKind::CronJob,
    TargetKind::Job,
    TargetKind::Pod,
];

/// List what a session could take the place of
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LsArgs {
    /// Namespace of the targets [default: MIRRORD_TARGET_NAMESPACE, else the file's, else the context's own]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<Namespace>,

    /// Targets of this kind alone, such as deployment, service or pod; may be given several times [default: all but services]
    #[arg(short = 't', long = "type", value_name = "KIND", value_parser = parse_kind)]
    kinds: Vec<TargetKind>,

    /// A session's configuration file: its namespace and context are meant [default: BOUGH_CONFIG_FILE, else
    /// MIRRORD_CONFIG_FILE]
    #[arg(short = 'f', long, value_name = "FILE")]
    config_file: Option<PathBuf>,

    /// Where the targets live: `local` or a kubeconfig's context [default: MIRRORD_KUBE_CONTEXT, else the file's
    /// kube_context, else the kubeconfig's current one, else `local`]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,

    /// Form of the result; json: a list of texts as --target takes them, of what runs [default: text; json where the program is
    /// called as `mirrord`]
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

fn parse_kind(word: &str) -> Result<TargetKind, String> {
    let listed = |kind: &TargetKind| *kind != TargetKind::Label;
    TargetKind::from_word(word).filter(listed).ok_or_else(|| {
        let words: Vec<_> = TargetKind::words()
            .filter(|word| *word != "label")
            .collect();
        format!("there are {}", words.join(", "))
    })
}

/// Lists them.
pub(crate) async fn run(args: &LsArgs, settings: &Settings, ui: &Ui) -> Result<(), CommandError> {
    let config = session_file::read_place(args.config_file.as_ref(), settings)?;
    let context = session_file::choose_context(args.context.as_deref(), &config, settings)?;
    let named = args.namespace.clone().or(config.target.namespace);
    let namespace = settings.choose_namespace_of(named.as_ref(), context.namespace())?;
    let kinds = if args.kinds.is_empty() {
        USUAL.as_slice()
    } else {
        &args.kinds
    };
    let listing = contexts::list(&context, &namespace, kinds, settings).await?;
    for right in &listing.forbidden {
        ui.warn(&format!("not listed, for want of the right to {right}"));
    }
    for resource in &listing.cut {
        ui.warn(&format!("there are more {resource} than are listed"));
    }
    let found = Found {
        place: format!("namespace {namespace}, {context}"),
        listing,
    };
    let habitual = if settings.is_called_mirrord {
        Format::Json
    } else {
        Format::default()
    };
    ui.report(&found, args.output.unwrap_or(habitual))?;
    Ok(())
}

/// What was found, and where.
struct Found {
    place: String,
    listing: Listing,
}

impl Serialize for Found {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let running = self
            .listing
            .targets
            .iter()
            .filter(|entry| entry.running > 0);
        serializer.collect_seq(running.flat_map(words))
    }
}

/// As `--target` takes it: of several containers each.
fn words(entry: &TargetEntry) -> Vec<String> {
    let target = format!("{}/{}", entry.kind.as_str(), entry.name);
    if entry.containers.len() < 2 {
        return vec![target];
    }
    let containers = entry.containers.iter();
    containers
        .map(|container| format!("{target}/container/{container}"))
        .collect()
}

impl Report for Found {
    fn text(&self, page: Page) -> String {
        if self.listing.targets.is_empty() {
            return format!("No target in {}.\n", self.place);
        }
        let mut table = Table::new(page, &["TARGET", "RUNNING", "CONTAINERS"]);
        for entry in &self.listing.targets {
            table.row([
                format!("{}/{}", entry.kind.as_str(), entry.name),
                format!("{} of {}", entry.running, entry.all),
                entry.containers.join(", "),
            ]);
        }
        table.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, running: u32, containers: &[&str]) -> TargetEntry {
        TargetEntry {
            kind: TargetKind::Deployment,
            name: name.to_owned(),
            running,
            all: 2,
            containers: containers.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn programs_read_what_runs_as_target_takes_it() {
        let listing = Listing {
            targets: vec![
                entry("one", 1, &["app"]),
                entry("two", 2, &["app", "worker"]),
                entry("none", 0, &["app"]),
            ],
            ..Listing::default()
        };
        let found = Found {
            place: String::new(),
            listing,
        };
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"["deployment/one","deployment/two/container/app","deployment/two/container/worker"]"#
        );
    }

    #[test]
    fn a_kind_that_is_none_is_refused_with_those_that_there_are() {
        assert_eq!(parse_kind("deploy"), Ok(TargetKind::Deployment));
        for word in ["label", "node"] {
            assert!(
                parse_kind(word).unwrap_err().contains("statefulset"),
                "{word}"
            );
        }
    }
}
