//! The inventory service as its clients see it: requests shown as they are made, and what a product's stock is.

use std::fmt;

use anyhow::{Context, Result, ensure};
use fixtures::http::{self, Response};
use serde::Deserialize;

use super::transcript::Transcript;

/// The product of the walk-through.
pub(super) const PRODUCT: &str = "1";

/// What of a product can still be reserved, and what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Stock {
    #[serde(rename = "stock_quantity")]
    pub(super) free: i64,
    #[serde(rename = "reserved_quantity")]
    pub(super) reserved: i64,
}

impl fmt::Display for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { free, reserved } = self;
        write!(f, "{free} in stock, {reserved} reserved")
    }
}

/// A running inventory service.
#[derive(Debug, Clone)]
pub(super) struct Shop {
    port: u16,
    /// What its paths begin with there.
    prefix: String,
}

impl Shop {
    /// The one that listens, or will, on this port.
    pub(super) fn on(port: u16) -> Self {
        Self {
            port,
            prefix: String::new(),
        }
    }

    /// The one that is reached below `prefix` of the server on this port.
    pub(super) fn below(port: u16, prefix: String) -> Self {
        Self { port, prefix }
    }

    /// Where `path` of it is.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{}{path}", self.port, self.prefix)
    }

    /// Whether it and its database answer.
    pub(super) fn is_healthy(&self) -> bool {
        http::get(self.port, &format!("{}/healthz", self.prefix))
            .is_ok_and(|response| response.status == 200)
    }

    /// Asks for the product, visibly.
    pub(super) fn stock(&self, transcript: &Transcript) -> Result<Stock> {
        let path = format!("/api/inventory/{PRODUCT}");
        transcript.line(&format!("  GET {}", self.url(&path)))?;
        let response = http::get(self.port, &format!("{}{path}", self.prefix))?;
        show(transcript, &response)?;
        ensure!(
            response.status == 200,
            "the service answers {}",
            response.status
        );
        serde_json::from_str(&response.body).context("read a product")
    }

    /// Reserves or releases (`verb`) units of the product, visibly; gives the status.
    pub(super) fn order(&self, verb: &str, quantity: u32, transcript: &Transcript) -> Result<u16> {
        let path = format!("/api/inventory/{verb}");
        let body = format!(r#"{{"items":[{{"productId":"{PRODUCT}","quantity":{quantity}}}]}}"#);
        transcript.line(&format!("  POST {} {body}", self.url(&path)))?;
        let response = http::post(self.port, &format!("{}{path}", self.prefix), &body)?;
        show(transcript, &response)?;
        Ok(response.status)
    }
}

fn show(transcript: &Transcript, response: &Response) -> Result<()> {
    transcript.said(&format!("{} {}", response.status, response.body.trim_end()))
}
