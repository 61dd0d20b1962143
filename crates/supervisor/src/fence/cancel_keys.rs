//! Where a request to cancel a query belongs: to the server that gave out its key (documentation section 55.2.9).
//!
//! The request comes on a connection of its own, to the same address, which stands for several servers here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::remote::Destination;

type Keys = Mutex<HashMap<Vec<u8>, Destination>>;

/// The keys of the connections that stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelKeys(Arc<Keys>);

impl CancelKeys {
    /// Remembers who gave out `key`, until the answer is dropped.
    pub(crate) fn register(&self, key: Vec<u8>, server: Destination) -> Registered {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.clone(), server);
        Registered {
            keys: self.clone(),
            key,
        }
    }

    /// Who gave out `key`; none where no connection that stands has it.
    pub(crate) fn owner(&self, key: &[u8]) -> Option<Destination> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(key).cloned()
    }
}

/// A key that is remembered.
#[derive(Debug)]
pub(crate) struct Registered {
    keys: CancelKeys,
    key: Vec<u8>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut keys = self.keys.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
    }
}
