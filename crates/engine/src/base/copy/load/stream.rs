//! Rows of one table on their way into the base: held until they are known to be many, then frozen.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio_postgres::CopyInSink;

use super::{refused, shown};
use crate::base::copy::error::CopyError;
use crate::postgres::connect::Session;

/// Bytes from which on rows are frozen: emptying a table anew costs more than reading a small one does later.
const FREEZE_BYTES_MIN: usize = 256 * 1024;

/// A COPY in progress. It begins on the base once it is known to be worth freezing.
pub(super) struct Rows {
    /// The table, as the dump writes it.
    table: String,
    /// The COPY behind the table's name.
    rest: String,
    held: Vec<Bytes>,
    held_bytes: usize,
    sink: Option<Pin<Box<CopyInSink<Bytes>>>>,
    in_transaction: bool,
}

impl Rows {
    pub(super) fn new(table: &str, rest: &str) -> Self {
        Self {
            table: table.to_owned(),
            rest: rest.to_owned(),
            held: Vec::new(),
            held_bytes: 0,
            sink: None,
            in_transaction: false,
        }
    }

    /// The table, as the dump writes it.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// Takes rows in. They go to the base once they are many, or at the end.
    pub(super) async fn take(
        &mut self,
        data: Bytes,
        base: &Session,
        may_freeze: bool,
    ) -> Result<(), CopyError> {
        self.held_bytes += data.len();
        self.held.push(data);
        if self.sink.is_none() && self.held_bytes >= FREEZE_BYTES_MIN {
            self.begin(base, may_freeze).await?;
        }
        self.send().await
    }

    fn refused(&self, source: tokio_postgres::Error) -> CopyError {
        refused(format!("rows of {}", shown(&self.table)), source)
    }

    /// Begins the COPY. Frozen rows take a table that is empty anew in the transaction.
    async fn begin(&mut self, base: &Session, frozen: bool) -> Result<(), CopyError> {
        let (table, rest) = (&self.table, &self.rest);
        let mut statement = format!("COPY {table}{rest}");
        if frozen {
            let begun = base
                .batch_execute(&format!("BEGIN; TRUNCATE ONLY {table}"))
                .await;
            begun.map_err(|source| self.refused(source))?;
            statement.push_str(" WITH (FREEZE)");
        }
        let sink = base.copy_in(&statement).await;
        self.sink = Some(Box::pin(sink.map_err(|source| self.refused(source))?));
        self.in_transaction = frozen;
        Ok(())
    }

    /// Sends what is held, if the COPY has begun.
    async fn send(&mut self) -> Result<(), CopyError> {
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        for data in self.held.drain(..) {
            let sent = sink.send(data).await;
            sent.map_err(|source| refused(format!("rows of {}", shown(&self.table)), source))?;
        }
        Ok(())
    }

    /// Sends what is left and ends the COPY. A table without rows needs none.
    pub(super) async fn finish(mut self, base: &Session) -> Result<(), CopyError> {
        if self.sink.is_none() && !self.held.is_empty() {
            self.begin(base, false).await?;
            self.send().await?;
        }
        if let Some(mut sink) = self.sink.take() {
            let ended = sink.as_mut().finish().await;
            ended.map_err(|source| self.refused(source))?;
        }
        if self.in_transaction {
            let committed = base.batch_execute("COMMIT").await;
            committed.map_err(|source| self.refused(source))?;
        }
        Ok(())
    }
}
