//! The thread that carries a session's connections: one, so that a byte changes hands between sockets without waking
//! another thread.
//!
//! Owns the runtime and its end. What runs there is others': the proxy, the conversations, and the links to agents.

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

/// The thread. It ends with the last copy of this, and with it whatever runs there, which must own none.
#[derive(Debug, Clone)]
pub struct NetworkThread {
    runtime: Handle,
    /// Dropping it ends the thread.
    _end: Arc<oneshot::Sender<()>>,
}

impl NetworkThread {
    /// Starts it.
    ///
    /// # Errors
    /// When threads or descriptors are wanting.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end_tx, end_rx) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("network".to_owned());
        thread.spawn(move || {
            // An answer or the sender's end: either is the end.
            let _ended = runtime.block_on(end_rx);
            runtime.shutdown_background();
        })?;
        Ok(Self {
            runtime: handle,
            _end: Arc::new(end_tx),
        })
    }

    /// What `work` comes to there. Dropped meanwhile, the work is given up.
    ///
    /// # Panics
    /// When the work does.
    pub async fn run<F>(&self, work: F) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match AbortOnDropHandle::new(self.runtime.spawn(work)).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The thread lives as long as this, and nobody else can give the work up.
                Err(error) => unreachable!("{error}"),
            },
        }
    }

    /// Where others' work is put.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_on_the_thread_and_ends_with_it() {
        let thread = NetworkThread::start().unwrap();
        let name = thread.run(async { std::thread::current().name().map(str::to_owned) });
        assert_eq!(name.await.as_deref(), Some("network"));
        let (held_tx, held_rx) = oneshot::channel::<()>();
        thread.runtime().spawn(async move {
            let _held = held_tx;
            std::future::pending::<()>().await;
        });
        let copy = thread.clone();
        drop(thread);
        copy.run(std::future::ready(())).await;
        drop(copy);
        // Whoever held the other end is gone.
        assert!(held_rx.await.is_err());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_given_up() {
        let thread = NetworkThread::start().unwrap();
        let (begun_tx, begun_rx) = oneshot::channel();
        let (held_tx, held_rx) = oneshot::channel::<()>();
        let work = thread.run(async move {
            let _held = held_tx;
            begun_tx.send(()).ok();
            std::future::pending::<()>().await;
        });
        tokio::select! {
            () = work => unreachable!("it never ends"),
            begun = begun_rx => begun.unwrap(),
        }
        assert!(held_rx.await.is_err());
    }
}
