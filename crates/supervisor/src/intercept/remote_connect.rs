//! A connect whose outcome is the other end's own: connected, refused, timed out; and whose program does not wait
//! unless it asked to.
//!
//! ```text
//!   blocking ───── dialled, then the program's socket joins the proxy; or the other end's errno; until a signal comes,
//!        or the socket's own time (SO_SNDTIMEO) is over: then as the next, and the call ends as the kernel's would
//!   non-blocking ─ the same, if it takes less than LATE, and only while the session's other ends answer promptly; else it
//!        waits without its program (`late_connect`)
//! ```

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{Connecting, errno};
use super::{Answer, Interceptor};
use crate::asker::Asker;
use crate::remote::{Destination, Dialled, Pending, Remote, TargetNetwork, ThisMachine};
use crate::seccomp::Question;

/// How long a call that does not block is held for the other end's answer at most: most refusals come sooner, and then
/// the call itself can say so.
const LATE: Duration = Duration::from_millis(20);

/// Answers that take no longer than this on the average are worth it: whoever makes many connects from one thread hardly
/// notices.
const PROMPT: Duration = Duration::from_millis(2);

/// The part of one answer in the average: 1 of so many.
const SHARE: u32 = 4;

/// One turn of a connect that waits: how late it sees a signal.
const TURN: Duration = Duration::from_millis(50);

/// What the kernel makes EINTR of, or the call once more, as the signal's handler was installed (linux/errno.h,
/// `ERESTARTSYS`; sigaction(2), `SA_RESTART`). For a thread alone that has a signal.
const RESTART: i32 = 512;

/// What became of a program's wait.
pub(super) enum Waited<T> {
    /// What was waited for.
    Ended(T),
    /// A signal came first; the call ends with this.
    Interrupted(i32),
    /// The socket's own time was over first.
    TimedOut,
    /// The program is gone.
    Gone,
}

/// How soon the other ends of a session answer, lately.
#[derive(Debug, Default)]
pub(super) struct Promptness {
    average: Mutex<Duration>,
}

impl Promptness {
    fn note(&self, took: Duration) {
        let mut average = self.lock();
        *average = averaged(*average, took);
    }

    fn hold(&self) -> Duration {
        hold(*self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Duration> {
        self.average.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An average with one answer more; what is late is as late as anything.
fn averaged(average: Duration, took: Duration) -> Duration {
    (average * (SHARE - 1) + took.min(LATE)) / SHARE
}

/// How long a call that does not block is held where answers take so long on the average.
fn hold(average: Duration) -> Duration {
    if average <= PROMPT {
        LATE
    } else {
        Duration::ZERO
    }
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
            let mut dialling = interceptor.dial(&to, network.as_deref());
            let waited = match waits {
                Some(patience) => {
                    let patience = Patience::of(asker, patience);
                    interceptor
                        .wait_for(&question, &patience, &mut dialling)
                        .await
                }
                None => interceptor.hold(&mut dialling).await,
            };
            let dialled = match waited {
                Waited::Ended(dialled) => dialled,
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

    /// Connects in `network`, or here where there is none, and notes how long that took.
    fn dial<'a>(
        &'a self,
        to: &'a Destination,
        network: Option<&'a TargetNetwork>,
    ) -> Pending<'a, Dialled> {
        Box::pin(async move {
            let begun = Instant::now();
            let dialled = match network {
                Some(network) => network.dial_there(to).await,
                None => ThisMachine.dial(to).await,
            };
            self.promptness.note(begun.elapsed());
            dialled
        })
    }

    /// Waits for the other end for as long as a program does not notice.
    async fn hold(&self, dialling: &mut Pending<'_, Dialled>) -> Waited<io::Result<Dialled>> {
        let hold = self.promptness.hold();
        if let Ok(dialled) = tokio::time::timeout(hold, dialling).await {
            return Waited::Ended(dialled);
        }
        if !hold.is_zero() {
            self.promptness.note(hold);
        }
        Waited::TimedOut
    }

    /// Waits as a program does that waits: until a signal, or its socket's own time.
    pub(super) async fn wait_for<T>(
        &self,
        question: &Question,
        patience: &Patience,
        awaited: &mut (impl Future<Output = T> + Unpin),
    ) -> Waited<T> {
        loop {
            if let Ok(ended) = tokio::time::timeout(patience.turn(), &mut *awaited).await {
                return Waited::Ended(ended);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prompt_answers_are_held_for() {
        let mut average = Duration::ZERO;
        assert_eq!(hold(average), LATE);
        // One that is late is enough, however late; some prompt ones make up for it.
        average = averaged(average, Duration::from_secs(100));
        assert_eq!(hold(average), Duration::ZERO);
        for _ in 0..5 {
            average = averaged(average, Duration::from_micros(300));
        }
        assert_eq!(hold(average), LATE);
        // Where every answer takes longer, nobody is held for.
        for _ in 0..20 {
            average = averaged(average, Duration::from_millis(3));
        }
        assert_eq!(hold(average), Duration::ZERO);
    }
}
