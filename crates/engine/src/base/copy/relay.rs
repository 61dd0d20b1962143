//! Rows from one server's socket to another's: the messages of COPY go through as they came.
//!
//! ```text
//!   source says      base is told
//!   H  copy begins   Q  COPY ... FROM STDIN
//!   d  a row         d  the same bytes
//!   c  copy ends     c
//!   Z  ready         (the next table)
//! ```
//!
//! All of a batch's queries are sent to the source at once, and the base is told of the next table before it has answered
//! the last: nothing waits for a round trip. Owns the pump and its counts, and that an error of either side ends it at
//! once. Source: PostgreSQL documentation, section 55.2.6 "COPY Operations".

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::bulk::{BINARY_TRAILER_BYTES, BulkTable, Format};
use super::error::CopyError;
use super::pace::Pace;
use super::progress::Progress;
use crate::postgres::connect::raw::{RawError, RawSession, header, read_more, take_message};

/// What all readers of a copy share.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) pace: &'a Pace,
    pub(super) progress: &'a Progress<'a>,
}

/// Which side failed, at which table of the batch.
enum Failure {
    Source(usize, RawError),
    Base(usize, RawError),
}

/// Copies the rows of a batch.
pub(super) async fn relay(
    source: &mut RawSession,
    base: &mut RawSession,
    batch: &[BulkTable],
    shared: Shared<'_>,
) -> Result<(), CopyError> {
    let relayed = pump(source, base, batch, shared).await;
    relayed.map_err(|failure| match failure {
        Failure::Source(at, source) => CopyError::Relay {
            table: shown(batch, at),
            source,
        },
        Failure::Base(at, source) => {
            CopyError::of_raw_base(format!("fill {}", shown(batch, at)), source)
        }
    })
}

fn shown(batch: &[BulkTable], at: usize) -> String {
    batch
        .get(at)
        .map_or_else(String::new, BulkTable::shown_name)
}

async fn pump(
    source: &mut RawSession,
    base: &mut RawSession,
    batch: &[BulkTable],
    shared: Shared<'_>,
) -> Result<(), Failure> {
    let mut queries = BytesMut::new();
    for table in batch {
        frontend::query(&table.copy_out(), &mut queries)
            .map_err(|error| Failure::Source(0, error.into()))?;
    }
    let written = async {
        source.stream.write_all(&queries).await?;
        source.stream.flush().await
    };
    written
        .await
        .map_err(|error| Failure::Source(0, error.into()))?;
    let (mut answers, into) = tokio::io::split(&mut base.stream);
    let forward = Forward {
        from: &mut source.stream,
        input: &mut source.input,
        into,
        batch,
        shared,
        at: 0,
        row_left: 0,
    };
    let watch = watch(&mut answers, &mut base.input, batch.len());
    tokio::try_join!(forward.run(), watch).map(drop)
}

/// Reads what the base answers, until it has taken every table.
async fn watch(
    answers: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    tables: usize,
) -> Result<(), Failure> {
    let mut taken = 0;
    while taken < tables {
        let failed = |error| Failure::Base(taken, error);
        match take_message(input).map_err(failed)? {
            Some(message) if message.tag == b'Z' => taken += 1,
            Some(_) => {}
            None => read_more(answers, input).await.map_err(failed)?,
        }
    }
    Ok(())
}

/// The way of the rows.
struct Forward<'a, R, W> {
    from: &'a mut R,
    input: &'a mut BytesMut,
    into: W,
    batch: &'a [BulkTable],
    shared: Shared<'a>,
    /// The table that comes.
    at: usize,
    /// Bytes of a row's message that are still to come.
    row_left: usize,
}

impl<R, W> Forward<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    async fn run(mut self) -> Result<(), Failure> {
        while self.at < self.batch.len() {
            let (bytes, rows) = self.rows_at_hand().map_err(|error| self.of_source(error))?;
            if bytes > 0 {
                self.shared.pace.take(bytes).await;
                self.shared.progress.add(bytes as u64, rows);
                let rows = self.input.split_to(bytes);
                self.write(&rows).await?;
                continue;
            }
            if self.row_left == 0 {
                let message = take_message(self.input);
                if let Some(message) = message.map_err(|error| self.of_source(error))? {
                    self.answer(message.tag, message.body.len()).await?;
                    continue;
                }
            }
            let more = read_more(self.from, self.input).await;
            more.map_err(|error| self.of_source(error))?;
        }
        Ok(())
    }

    fn of_source(&self, error: RawError) -> Failure {
        Failure::Source(self.at, error)
    }

    /// The bytes at the input's beginning that belong to rows, and how many rows begin in them.
    fn rows_at_hand(&mut self) -> Result<(usize, u64), RawError> {
        let mut end = 0;
        let mut rows = 0;
        loop {
            let here = self.row_left.min(self.input.len() - end);
            end += here;
            self.row_left -= here;
            if self.row_left > 0 {
                return Ok((end, rows));
            }
            match header(&self.input[end..])? {
                Some((b'd', length)) => {
                    self.row_left = length;
                    rows += u64::from(self.is_row(length));
                }
                Some(_) | None => return Ok((end, rows)),
            }
        }
    }

    /// Whether a message of rows, `length` bytes with its header, is one.
    fn is_row(&self, length: usize) -> bool {
        let format = self.batch.get(self.at).map(BulkTable::format);
        format != Some(Format::Binary) || length > BINARY_TRAILER_BYTES
    }

    /// What the source says between rows.
    async fn answer(&mut self, tag: u8, length: usize) -> Result<(), Failure> {
        match tag {
            b'H' => {
                let table = &self.batch[self.at];
                let name = table.shown_name();
                self.shared.progress.table_begins(&name, table.bytes());
                let mut query = BytesMut::new();
                frontend::query(&table.copy_in(), &mut query)
                    .map_err(|error| Failure::Base(self.at, error.into()))?;
                self.write(&query).await
            }
            b'c' => {
                let mut done = BytesMut::new();
                frontend::copy_done(&mut done);
                self.write(&done).await
            }
            b'Z' => {
                let name = shown(self.batch, self.at);
                self.shared.progress.table_ends(&name);
                self.at += 1;
                Ok(())
            }
            // The end of a command, a notice, a setting, a notification.
            b'C' | b'N' | b'S' | b'A' => Ok(()),
            tag => Err(self.of_source(RawError::Message {
                tag: char::from(tag),
                length,
            })),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.into.write_all(bytes).await?;
            self.into.flush().await
        };
        written
            .await
            .map_err(|error| Failure::Base(self.at, error.into()))
    }
}
