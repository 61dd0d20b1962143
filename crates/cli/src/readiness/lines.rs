//! A waiting branch in words. Pure.

use std::time::Duration;

use jiff::Timestamp;
use model::engine_api::{BranchPhase, BranchView, CopyPhase, CopyProgress};

use crate::branch_words;
use crate::ui::{ProgressLine, words};

/// What a copy will take, once it is known: told before anybody waits for it.
pub(super) fn announce(branch: &BranchView, limit: Duration) -> Option<String> {
    let progress = branch.progress.as_ref()?;
    let size = progress.source_size_bytes?;
    let mut text = format!(
        "{}: copying {} of {}, {size}",
        branch.id,
        branch.spec.database,
        branch_words::address(&branch.spec.source, branch.spec.network.as_deref()),
    );
    if let Some(needed) = progress.disk_needed_bytes {
        text.push_str(&format!("; needs {needed} of disk here"));
        if let Some(free) = progress.disk_free_bytes {
            text.push_str(&format!(", {free} is free"));
        }
    }
    if let Some(seconds) = progress.estimate_seconds {
        text.push_str(&format!("; about {}", words::span(seconds)));
    }
    let limit = words::span(limit.as_secs());
    text.push_str(&format!(
        "; this command waits {limit} at most, the copy goes on without it"
    ));
    Some(text)
}

/// Where a branch is; none once nothing is waited for.
pub(super) fn describe(branch: &BranchView, now: Timestamp) -> Option<ProgressLine> {
    let id = &branch.id;
    let plain = |step: &'static str, what: &str| ProgressLine {
        step,
        text: format!("{id}: {what}"),
        done: None,
    };
    match (branch.phase, &branch.progress) {
        (BranchPhase::Copying, Some(progress)) => {
            Some(describe_copy(branch.id.as_str(), progress, now))
        }
        (BranchPhase::Copying, None) => {
            Some(plain("checking", "asking the source whether it moved"))
        }
        (BranchPhase::Cloning, _) => Some(plain("cloning", "cloning files")),
        (BranchPhase::Starting, _) => Some(plain("starting", "starting its server")),
        (BranchPhase::Ready | BranchPhase::Failed | BranchPhase::Deleting, _) => None,
    }
}

/// Where the copy is that `id` waits for.
pub(crate) fn describe_copy(id: &str, progress: &CopyProgress, now: Timestamp) -> ProgressLine {
    let (step, what) = match progress.phase {
        CopyPhase::Waiting => ("waiting", "waiting until another copy is done"),
        CopyPhase::Inspecting => ("inspecting", "asking the source what it holds"),
        CopyPhase::Preparing => ("preparing", "making an empty server"),
        CopyPhase::Checkpoint => ("checkpoint", "waiting for the source's checkpoint"),
        CopyPhase::Copying => ("copying", "copying"),
        CopyPhase::Indexing => ("indexing", "building indexes and constraints"),
        CopyPhase::Adapting => ("preparing", "running the administrator's SQL"),
        CopyPhase::Sealing => ("sealing", "sealing the copy's files"),
    };
    let mut text = format!("{id}: {what}");
    let mut done = None;
    if progress.phase == CopyPhase::Copying {
        text.push_str(&format!(" {}", progress.copied_bytes));
        // The size is an estimate: rows that the source keeps compressed are more than it.
        let size = progress.source_size_bytes;
        if let Some(size) = size.filter(|size| progress.copied_bytes <= *size) {
            text.push_str(&format!(" of {size}"));
            done = Some((progress.copied_bytes.0, size.0));
        }
        text.push_str(&format!(", {} rows", words::count(progress.copied_rows)));
        if let Some(table) = &progress.table {
            text.push_str(&format!(", {table}"));
        }
    }
    if let Some(advice) = &progress.advice {
        text.push_str(&format!(" ({advice})"));
    }
    let spent = words::seconds_between(progress.started_at, now);
    text.push_str(&format!(", {}", words::span(spent)));
    // How long the source takes, no estimate knows.
    let estimate = progress.estimate_seconds;
    if let Some(estimate) = estimate.filter(|_| progress.phase != CopyPhase::Checkpoint) {
        text.push_str(&format!(" of about {}", words::span(estimate)));
    }
    ProgressLine { step, text, done }
}

#[cfg(test)]
mod tests {
    use model::ByteSize;

    use super::*;
    use crate::samples;

    fn copying() -> CopyProgress {
        CopyProgress {
            phase: CopyPhase::Copying,
            source_size_bytes: Some(ByteSize(13_000_000)),
            disk_needed_bytes: None,
            disk_free_bytes: None,
            estimate_seconds: Some(11),
            copied_bytes: ByteSize(6_500_000),
            copied_rows: 1200,
            table: Some("public.orders".to_owned()),
            advice: None,
            started_at: samples::start(),
        }
    }

    fn line(progress: &CopyProgress) -> ProgressLine {
        let now = samples::start() + jiff::SignedDuration::from_secs(217);
        describe_copy("try-it", progress, now)
    }

    #[test]
    fn a_wait_for_the_source_is_told_with_what_ends_it_and_without_an_estimate() {
        let advice =
            "its checkpoint_timeout at most; GRANT pg_checkpoint TO \"app\" makes it begin at once";
        let waiting = CopyProgress {
            phase: CopyPhase::Checkpoint,
            advice: Some(advice.to_owned()),
            ..copying()
        };
        assert_eq!(
            line(&waiting).text,
            "try-it: waiting for the source's checkpoint (its checkpoint_timeout at most; \
             GRANT pg_checkpoint TO \"app\" makes it begin at once), 3 min 37 s"
        );
    }

    #[test]
    fn a_wait_for_other_copies_names_the_limit_that_it_keeps() {
        let waiting = CopyProgress {
            phase: CopyPhase::Waiting,
            estimate_seconds: None,
            advice: Some("copies_max = 2".to_owned()),
            ..copying()
        };
        assert_eq!(
            line(&waiting).text,
            "try-it: waiting until another copy is done (copies_max = 2), 3 min 37 s"
        );
    }

    #[test]
    fn no_copy_is_said_to_be_more_than_whole() {
        let half = line(&copying());
        assert_eq!(half.done, Some((6_500_000, 13_000_000)));
        assert!(half.text.contains("copying 6.50 MB of 13.0 MB, 1,200 rows"));
        let more = line(&CopyProgress {
            copied_bytes: ByteSize(32_400_000),
            ..copying()
        });
        assert_eq!(more.done, None);
        assert!(
            more.text.contains("copying 32.4 MB, 1,200 rows"),
            "{}",
            more.text
        );
    }
}
