//! The environment of the target's process, as the kernel shows it: what it was started with.

use tokio::io::AsyncWriteExt;
use wire::pump::Offer;
use wire::{Errno, Opened};

/// ESRCH: there is no such process.
const NO_PROCESS: Errno = Errno(3);

/// Sends the environment of `process` on the stream that is asked for.
pub(crate) async fn give(offer: Offer, process: Option<u32>) {
    let Some(process) = process else {
        return offer.refuse(NO_PROCESS);
    };
    // The kernel keeps it to a fraction of the process's stack, a few megabytes at most.
    match tokio::fs::read(format!("/proc/{process}/environ")).await {
        Ok(environ) => {
            let mut stream = offer.accept(Opened::default());
            if stream.write_all(&environ).await.is_ok() {
                // A client that has gone misses nothing.
                stream.shutdown().await.ok();
            }
        }
        Err(error) => offer.refuse((&error).into()),
    }
}
