//! The gateways that are open: one a source and proxy, as long as anybody holds it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::PgUrl;
use model::engine_api::SourceProxy;

use crate::postgres::connect::{ConnectError, Gateway};

/// The gateways of one engine.
#[derive(Debug)]
pub struct Gateways {
    /// Where their sockets' directories are made.
    sockets: PathBuf,
    open: Mutex<Vec<Open>>,
}

#[derive(Debug)]
struct Open {
    proxy: SourceProxy,
    url: PgUrl,
    gateway: Weak<Gateway>,
}

impl Gateways {
    /// None yet, with their sockets below `sockets`.
    pub fn new(sockets: PathBuf) -> Self {
        Self {
            sockets,
            open: Mutex::default(),
        }
    }

    /// Closes all of them: the engine ends.
    pub fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for one in open.drain(..) {
            if let Some(gateway) = one.gateway.upgrade() {
                gateway.close();
            }
        }
    }

    /// The gateway to the source of `url` by `proxy`: the one that somebody holds, or a new one. Inside a runtime.
    ///
    /// # Errors
    /// [`ConnectError`] as for [`Gateway::open`].
    pub fn to(&self, proxy: &SourceProxy, url: &PgUrl) -> Result<Arc<Gateway>, ConnectError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|one| one.gateway.strong_count() > 0);
        let found = open
            .iter()
            .find(|one| one.proxy == *proxy && one.url == *url);
        if let Some(gateway) = found.and_then(|one| one.gateway.upgrade()) {
            return Ok(gateway);
        }
        // A name of its own each: one that is being closed may still have its own.
        let directory = self
            .sockets
            .join(format!("to-{:016x}", rand::random::<u64>()));
        let gateway = Arc::new(Gateway::open(directory, proxy.clone(), url)?);
        open.push(Open {
            proxy: proxy.clone(),
            url: url.clone(),
            gateway: Arc::downgrade(&gateway),
        });
        Ok(gateway)
    }
}
