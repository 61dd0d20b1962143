//! Structure and rows of a source, within the snapshot of one session.
//!
//! ```text
//!   whole     pg_dump ──▶ before rows ─┬────────── large objects ──────────┬─▶ read ─▶ after rows, by several sessions
//!                                      └─ bulk: rows by several connections ┘           (late)
//!                                         then where sequences stand              then materialized views
//!   selected  pg_dump before rows ─▶ rows, through filters ─▶ pg_dump after rows ─▶ read
//! ```
//!
//! Owns which way a copy takes, that all of it is of one moment, and that the source is let go once it is read: what takes
//! long after that, indexes above all, holds neither its locks nor its snapshot. Leaves each step to its file.

use std::sync::Arc;

use model::CopyMode;
use model::engine_api::CopyPhase;

use super::bulk::{self, BulkTable, Origin};
use super::cluster::Cluster;
use super::dump::{Dump, Order, Part};
use super::error::CopyError;
use super::late::{self, Late};
use super::load::{Leniency, LoadError, Loader};
use super::pace::Pace;
use super::plan::Plan;
use super::progress::Progress;
use super::{CopyRequest, rows, views};
use crate::postgres::binaries::Installation;
use crate::postgres::connect::{ConnInfo, Peer, Session, conninfo};
use crate::source::{SourceError, row};

/// What is copied, from where and to where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'s, 'a> {
    pub(super) request: &'a CopyRequest<'a>,
    pub(super) plan: &'a Plan<'a>,
    /// The session on the source whose transaction it is.
    pub(super) source: &'s Session,
    pub(super) cluster: &'a Cluster<'a>,
    /// A session in the database.
    pub(super) base: &'a Session,
}

/// What is read, and yet to be made of it.
pub(super) struct Unfinished<'a> {
    cluster: &'a Cluster<'a>,
    plan: &'a Plan<'a>,
    base: &'a Session,
    loader: Loader<'a>,
    statements: Vec<Late>,
    views: Vec<String>,
}

impl Unfinished<'_> {
    /// Makes it; what the base has otherwise goes to `notes`.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn finish(
        mut self,
        notes: &mut Vec<String>,
        progress: &Progress<'_>,
    ) -> Result<(), CopyError> {
        progress.phase(CopyPhase::Indexing);
        late::run(self.statements, &mut self.loader, self.cluster, self.plan).await?;
        views::refresh(self.base, self.plan, self.views, notes).await?;
        self.loader.load_event_triggers().await?;
        notes.append(&mut self.loader.notes);
        Ok(())
    }
}

impl<'a> Content<'_, 'a> {
    /// Reads it; the source is needed no more afterwards. None where only what a cluster has is wanted.
    ///
    /// # Errors
    /// [`CopyError`].
    pub(super) async fn read(
        &self,
        progress: &Progress<'_>,
    ) -> Result<Option<Unfinished<'a>>, CopyError> {
        let Some(dumper) = self.plan.dumper else {
            return Ok(None);
        };
        rows::hold(self.source, &self.plan.tables).await?;
        let snapshot = row(self.source, "snapshot", "SELECT pg_export_snapshot()")
            .await?
            .text(0)?;
        let mode = self.request.copy.mode;
        let mut loader = Loader::new(
            self.base,
            Arc::new(Pace::new(self.request.rate_max, self.request.clock)),
            Leniency {
                mode,
                rows_selected: mode != CopyMode::All,
                through_roots: self.plan.selection.through_roots,
            },
        );
        let connection = self.connection()?;
        let order = self.order(dumper, &connection, &snapshot);
        let mut views = Vec::new();
        if mode != CopyMode::All {
            self.copy_selected(&order, &mut loader, progress).await?;
        } else if bulk::suits(self.request, self.plan) {
            views = views::find(self.source, self.plan).await?;
            self.copy_whole(&order, &mut loader, progress).await?;
        } else if !self.plan.between.takes_options() {
            // Money is written as a setting has it, which pg_dump's own session would lack.
            let address = self.peer().address.clone();
            return Err(SourceError::NoOptions { address }.into());
        } else {
            let condition = self.plan.selection.rows_condition();
            let begun = rows::unchanged(self.source, &condition);
            load_part(order.start(Part::Whole)?, &mut loader, progress, begun).await?;
        }
        Ok(Some(Unfinished {
            cluster: self.cluster,
            plan: self.plan,
            base: self.base,
            statements: loader.take_late(),
            loader,
            views,
        }))
    }

    fn order<'b>(
        &'b self,
        dumper: &'b Installation,
        connection: &'b ConnInfo,
        snapshot: &'b str,
    ) -> Order<'b> {
        Order {
            installation: dumper,
            connection,
            snapshot,
            copy: self.request.copy,
            tables: &self.plan.tables,
            sets: self.plan.between.takes_options(),
        }
    }

    fn peer(&self) -> &Peer {
        self.source.peer().expect("a source's session has a peer")
    }

    /// The source's connection for `pg_dump`: the server that answered us, whose snapshot it is.
    fn connection(&self) -> Result<ConnInfo, CopyError> {
        let access = self.request.access;
        let peer = self.peer();
        let settings = access.settings.iter();
        let settings = settings.map(|(name, value)| (name.as_str(), value.as_str()));
        let database = access.database.clone().or_else(|| access.url.database());
        let database = database.unwrap_or_else(|| self.plan.facts.database.clone());
        let described = conninfo(&access.url, &database, settings, peer);
        Ok(described.map_err(SourceError::from)?)
    }

    /// Everything: `pg_dump` for structure and large objects, rows past it.
    async fn copy_whole(
        &self,
        order: &Order<'_>,
        loader: &mut Loader<'_>,
        progress: &Progress<'_>,
    ) -> Result<(), CopyError> {
        let pace = loader.pace();
        let may_begin = loader.set_aside();
        let (held_tx, held) = tokio::sync::oneshot::channel();
        let begun = async {
            // pg_dump holds all its locks by now: nobody waits for one any more.
            let tables = self.hold().await?;
            // Whoever waits may have failed by itself.
            let _ = held_tx.send(tables);
            Ok(())
        };
        let rows = async {
            // Either ends without a word when the dump fails, which says so itself.
            let (Ok(()), Ok(tables)) = (may_begin.await, held.await) else {
                return Ok(());
            };
            let origin = Origin {
                request: self.request,
                plan: self.plan,
                session: self.source,
                snapshot: order.snapshot,
            };
            bulk::copy(&origin, self.cluster, tables, &pace, progress).await
        };
        let dump = order.start(Part::WithoutRows)?;
        tokio::try_join!(load_part(dump, loader, progress, begun), rows)?;
        rows::copy_sequences(self.source, self.base, self.plan).await
    }

    /// The tables whose rows come past `pg_dump`, each locked and what the snapshot knows.
    async fn hold(&self) -> Result<Vec<BulkTable>, CopyError> {
        let tables = bulk::find(self.source, self.plan).await?;
        bulk::hold(self.source, &tables).await?;
        let condition = self.plan.selection.rows_condition();
        rows::unchanged(self.source, &condition).await?;
        Ok(tables)
    }

    /// Structure, and the rows of named tables.
    async fn copy_selected(
        &self,
        order: &Order<'_>,
        loader: &mut Loader<'_>,
        progress: &Progress<'_>,
    ) -> Result<(), CopyError> {
        let nothing = async { Ok(()) };
        load_part(order.start(Part::BeforeRows)?, loader, progress, nothing).await?;
        rows::copy(
            self.source,
            self.base,
            &self.plan.tables,
            self.plan.selection.row_security,
            &loader.pace(),
            progress,
        )
        .await?;
        let nothing = async { Ok(()) };
        load_part(order.start(Part::AfterRows)?, loader, progress, nothing).await
    }
}

async fn load_part(
    mut dump: Dump,
    loader: &mut Loader<'_>,
    progress: &Progress<'_>,
    begun: impl Future<Output = Result<(), CopyError>>,
) -> Result<(), CopyError> {
    match loader.load(&mut dump.stdout, progress, begun).await {
        Ok(()) => dump.finish().await,
        // Its own words say why its output ended early.
        Err(LoadError::Cut(error)) => {
            dump.finish().await?;
            Err(error.into())
        }
        Err(LoadError::Failed(error)) => {
            dump.abandon().await;
            Err(error)
        }
    }
}
