//! What a copy says of itself while it goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};

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
    running: Mutex<Running>,
}

/// Tables whose rows come at the same time, with their sizes on the source.
#[derive(Debug, Default)]
struct Running {
    tables: Vec<(String, u64)>,
    shown: Option<String>,
}

impl Running {
    /// The table to name from now on, where it is another one: the largest, which is what whoever waits waits for.
    fn next_shown(&mut self) -> Option<Option<String>> {
        let largest = self.tables.iter().max_by_key(|(_, bytes)| *bytes);
        let largest = largest.map(|(name, _)| name.clone());
        if largest == self.shown {
            return None;
        }
        self.shown.clone_from(&largest);
        Some(largest)
    }
}

fn nothing_yet(phase: CopyPhase, started_at: Timestamp) -> CopyProgress {
    CopyProgress {
        phase,
        source_size_bytes: None,
        disk_needed_bytes: None,
        disk_free_bytes: None,
        estimate_seconds: None,
        copied_bytes: ByteSize(0),
        copied_rows: 0,
        table: None,
        advice: None,
        started_at,
    }
}

/// A copy that waits until another is done, told for as long as this lives.
pub(in crate::base) struct WaitsForOthers<'a>(&'a watch::Sender<Option<CopyProgress>>);

impl<'a> WaitsForOthers<'a> {
    /// Says that `copies_max` are made at once.
    pub(in crate::base) fn tell(
        sender: &'a watch::Sender<Option<CopyProgress>>,
        copies_max: u32,
        since: Timestamp,
    ) -> Self {
        sender.send_replace(Some(CopyProgress {
            advice: Some(format!("copies_max = {copies_max}")),
            ..nothing_yet(CopyPhase::Waiting, since)
        }));
        Self(sender)
    }
}

impl Drop for WaitsForOthers<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

impl<'a> Progress<'a> {
    /// Says that the copy has begun.
    pub(super) fn begin(
        sender: &'a watch::Sender<Option<CopyProgress>>,
        disk_free: ByteSize,
        started_at: Timestamp,
    ) -> Self {
        sender.send_replace(Some(CopyProgress {
            disk_free_bytes: Some(disk_free),
            ..nothing_yet(CopyPhase::Inspecting, started_at)
        }));
        Self {
            sender,
            untold: Mutex::new((0, 0)),
            running: Mutex::default(),
        }
    }

    fn untold(&self) -> MutexGuard<'_, (u64, u64)> {
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

    /// Tells that the rows of a table of so many bytes come, which other tables' may do as well.
    pub(super) fn table_begins(&self, name: &str, bytes: u64) {
        let mut running = self.running();
        running.tables.push((name.to_owned(), bytes));
        self.show(&mut running);
    }

    /// Tells that they are here.
    pub(super) fn table_ends(&self, name: &str) {
        let mut running = self.running();
        running.tables.retain(|(table, _)| table != name);
        self.show(&mut running);
    }

    fn show(&self, running: &mut Running) {
        let Some(table) = running.next_shown() else {
            return;
        };
        self.change(|progress| {
            progress.phase = CopyPhase::Copying;
            progress.table = table;
        });
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_tables_the_largest_is_named_until_it_is_here() {
        let sender = watch::Sender::new(None);
        let progress = Progress::begin(&sender, ByteSize(0), Timestamp::UNIX_EPOCH);
        let named = || sender.borrow().clone().and_then(|progress| progress.table);
        progress.table_begins("public.accounts", 700 << 20);
        progress.table_begins("public.history", 0);
        assert_eq!(named().as_deref(), Some("public.accounts"));
        progress.table_ends("public.history");
        progress.table_begins("public.tellers", 8192);
        assert_eq!(named().as_deref(), Some("public.accounts"));
        progress.table_ends("public.accounts");
        assert_eq!(named().as_deref(), Some("public.tellers"));
        progress.table_ends("public.tellers");
        assert_eq!(named(), None);
    }
}
