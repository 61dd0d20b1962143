//! What a copy says of itself while it goes on.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use model::ByteSize;
use model::engine_api::{CopyPhase, CopyProgress};
use tokio::sync::watch;

/// Bytes between two notices: some hundred a second at most, whatever the disk.
const NOTICE_BYTES: u64 = 256 * 1024;

/// Tells watchers how far the copy is. Several connections count into it.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    sender: &'a watch::Sender<Option<CopyProgress>>,
    untold: Mutex<(u64, u64)>,
}

impl<'a> Progress<'a> {
    /// Says that the copy has begun.
    pub(super) fn begin(
        sender: &'a watch::Sender<Option<CopyProgress>>,
        disk_free: ByteSize,
        started_at: Timestamp,
    ) -> Self {
        sender.send_replace(Some(CopyProgress {
            phase: CopyPhase::Inspecting,
            source_size_bytes: None,
            disk_needed_bytes: None,
            disk_free_bytes: Some(disk_free),
            estimate_seconds: None,
            copied_bytes: ByteSize(0),
            copied_rows: 0,
            table: None,
            started_at,
        }));
        Self {
            sender,
            untold: Mutex::new((0, 0)),
        }
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, (u64, u64)> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut CopyProgress)) {
        let (bytes, rows) = std::mem::take(&mut *self.untold());
        self.sender.send_modify(|progress| {
            if let Some(progress) = progress {
                progress.copied_bytes.0 += bytes;
                progress.copied_rows += rows;
                change(progress);
            }
        });
    }

    /// Announces what the copy will take.
    pub(super) fn plan(&self, source: ByteSize, disk_needed: ByteSize, estimate_seconds: u64) {
        self.change(|progress| {
            progress.source_size_bytes = Some(source);
            progress.disk_needed_bytes = Some(disk_needed);
            progress.estimate_seconds = Some(estimate_seconds);
        });
    }

    /// Enters a phase; no table belongs to it yet.
    pub(super) fn phase(&self, phase: CopyPhase) {
        self.change(|progress| {
            progress.phase = phase;
            progress.table = None;
        });
    }

    /// Names the table whose rows come next.
    pub(super) fn table(&self, name: &str) {
        self.change(|progress| {
            progress.phase = CopyPhase::Copying;
            progress.table = Some(name.to_owned());
        });
    }

    /// Counts rows in.
    pub(super) fn add(&self, bytes: u64, rows: u64) {
        let is_due = {
            let mut untold = self.untold();
            untold.0 += bytes;
            untold.1 += rows;
            untold.0 >= NOTICE_BYTES
        };
        if is_due {
            self.change(|_| ());
        }
    }
}
