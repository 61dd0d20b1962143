//! A branch followed through its changes: a line of JSON for each.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use model::engine_api::BranchView;

use super::ClientError;

/// The longest line: a branch with all its notes and sessions.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The changes of one branch, oldest first.
#[derive(Debug)]
pub(crate) struct BranchWatch {
    request: String,
    body: Incoming,
    /// Bytes of lines that are not complete or not yet taken.
    buffer: BytesMut,
}

impl BranchWatch {
    pub(super) fn new(request: String, response: Response<Incoming>) -> Self {
        Self {
            request,
            body: response.into_body(),
            buffer: BytesMut::new(),
        }
    }

    /// Waits for the next change; none once the branch is deleted. Not bounded: a branch may stay as it is. Safe to
    /// drop and call again.
    ///
    /// # Errors
    /// [`ClientError`] when the engine went away or says what is not understood.
    pub(crate) async fn next(&mut self) -> Result<Option<BranchView>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return self.parse(&line).map(Some);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::TooLong(self.request.clone()));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|source| ClientError::Exchange {
                request: self.request.clone(),
                source,
            })?;
            if let Some(bytes) = frame.data_ref() {
                self.buffer.extend_from_slice(bytes);
            }
        }
    }

    fn parse(&self, line: &[u8]) -> Result<BranchView, ClientError> {
        serde_json::from_slice(line).map_err(|source| ClientError::Answer {
            request: self.request.clone(),
            status: StatusCode::OK,
            source,
        })
    }
}
