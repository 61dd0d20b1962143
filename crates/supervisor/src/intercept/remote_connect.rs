//! A connect whose outcome is the other end's own: connected, refused, timed out; and whose program does not wait
//! unless it asked to.
//!
//! ```text
//!   blocking ───── dialled, then the program's socket joins the proxy; or the other end's errno; until a signal comes,
//!        or the socket's own time (SO_SNDTIMEO) is over: then as the next, and the call ends as the kernel's would
//!   non-blocking ─ the same, if it takes less than LATE; else it waits without its program (`late_connect`)
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{Connecting, errno};
use super::{Answer, Interceptor};
use crate::asker::Asker;
use crate::remote::{Destination, Dialled, Pending, Remote, TargetNetwork, ThisMachine};
use crate::seccomp::Question;

/// How long a call that does not block is held for the other end's answer: most refusals come sooner, and then the
/// call itself can say so.
const LATE: Duration = Duration::from_millis(20);

/// One turn of a connect that waits: how late it sees a signal.
const TURN: Duration = Duration::from_millis(50);

/// What the kernel makes EINTR of, or the call once more, as the signal's handler was installed (linux/errno.h,
/// `ERESTARTSYS`; sigaction(2), `SA_RESTART`). For a thread alone that has a signal.
const RESTART: i32 = 512;

/// What became of a program's wait for the other end.
pub(super) enum Waited {
    /// The other end answered.
    Dialled(io::Result<Dialled>),
    /// A signal came first; the call ends with this.
    Interrupted(i32),
    /// The socket's own time was over first.
    TimedOut,
    /// The program is gone.
    Gone,
}

/// How long a program waits for the other end.
#[derive(Debug)]
pub(super) struct Patience {
    asker: Asker,
    /// When its socket's own time is over; none: never.
    end: Option<Instant>,
}

impl Patience {
    /// That of a call which begins now, on a socket with this time of its own.
    pub(super) fn of(asker: Asker, time: Option<Duration>) -> Self {
        let end = time.map(|time| Instant::now() + time);
        Self { asker, end }
    }

    fn turn(&self) -> Duration {
        let left = self
            .end
            .map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(TURN, |left| left.min(TURN))
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// What a signal makes of the call: one with a time of its own does not begin anew (signal(7)).
    fn interruption(&self) -> i32 {
        if self.end.is_some() {
            libc::EINTR
        } else {
            RESTART
        }
    }
}

impl Interceptor {
    /// Connects in `network`, or here where there is none; the runtime answers.
    pub(super) fn connect_remotely(
        self: &Arc<Self>,
        question: &Question,
        asker: Asker,
        connecting: Connecting,
        network: Option<&Arc<TargetNetwork>>,
    ) -> Answer {
        let (interceptor, question) = (Arc::clone(self), *question);
        let network = network.map(Arc::clone);
        let socket = connecting.socket();
        let waits = socket.is_nonblocking().and_then(|is_nonblocking| {
            let patience = socket.send_timeout()?;
            Ok((!is_nonblocking).then_some(patience))
        });
        let waits = match waits {
            Ok(waits) => waits,
            Err(error) => return Answer::Fail(errno(&error)),
        };
        self.runtime.spawn(async move {
            let to = Destination::Tcp(connecting.address);
            let mut dialling: Pending<'_, Dialled> = match &network {
                Some(network) => Box::pin(network.dial_there(&to)),
                None => ThisMachine.dial(&to),
            };
            let waited = match waits {
                Some(patience) => {
                    let patience = Patience::of(asker, patience);
                    interceptor
                        .wait_for(&question, &patience, &mut dialling)
                        .await
                }
                None => match tokio::time::timeout(LATE, &mut dialling).await {
                    Ok(dialled) => Waited::Dialled(dialled),
                    Err(_) => Waited::TimedOut,
                },
            };
            let dialled = match waited {
                Waited::Dialled(dialled) => dialled,
                Waited::Interrupted(errno) => {
                    let waiting =
                        interceptor.wait_in_hole(&question, asker, connecting, dialling, errno);
                    return waiting.await;
                }
                Waited::TimedOut => {
                    let errno = libc::EINPROGRESS;
                    let waiting =
                        interceptor.wait_in_hole(&question, asker, connecting, dialling, errno);
                    return waiting.await;
                }
                Waited::Gone => return,
            };
            let answer = match dialled {
                Ok(upstream) => match interceptor.join(&connecting, Some(upstream)) {
                    Ok(()) => Answer::Succeed,
                    Err(errno) => Answer::Fail(errno),
                },
                Err(error) => Answer::Fail(errno(&error)),
            };
            interceptor.send(&question, answer);
        });
        Answer::Later
    }

    /// Waits for the other end as a program does that waits: until a signal, or its socket's own time.
    pub(super) async fn wait_for(
        &self,
        question: &Question,
        patience: &Patience,
        dialling: &mut Pending<'_, Dialled>,
    ) -> Waited {
        loop {
            if let Ok(dialled) = tokio::time::timeout(patience.turn(), &mut *dialling).await {
                return Waited::Dialled(dialled);
            }
            if !self.listener.is_valid(question) {
                return Waited::Gone;
            }
            if patience.asker.is_interrupted() {
                return Waited::Interrupted(patience.interruption());
            }
            if patience.is_over() {
                return Waited::TimedOut;
            }
        }
    }
}
