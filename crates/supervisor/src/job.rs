//! What a signal, or a stop of the child, makes this process do: job control as a pure machine.
//!
//! ```text
//!               the child stopped: stop as it did
//!   Running  --------------------------------------> Stopped   (again, if it stopped again before this process looked)
//!            <--------------------------------------
//!               the child was continued, by whoever continued this process;
//!               or SIGCONT, from a sender who left the child out: continue it
//!
//!            --------------------------------------> Left      the same without a terminal, and so without a shell
//!            <--------------------------------------           that could continue this process: it runs on
//! ```
//!
//! The child shares this process's group, and so the terminal's own signals: they are never forwarded. The shell sees
//! one job, whose leader is this process, so it stops exactly when the child stops, and by the same signal.
//!
//! A signal that another process sent is forwarded, and so is one that it sent to the whole group, since the receiver
//! cannot tell: the child then gets it twice (`kill %1`), as it does under sudo(8) without a terminal of its own.
//! SIGCONT is the exception. A shell sends it to the group with every `fg`, and passed on late it would undo the next
//! stop, so it goes to no child but one that is still stopped.

use crate::signals::Received;

/// What this process and the child are doing, as far as job control goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// Both run.
    Running,
    /// A signal stopped the child, and this process after it.
    Stopped,
    /// A signal stopped the child, this process runs.
    Left,
}

/// Who a signal came from, in the terms that decide whether it goes on to the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The terminal: the child has it already.
    Terminal,
    /// The terminal, in a signal that only the leader of a session gets, which is this process.
    HangUp,
    /// The child or one of its descendants. What it sends to its parent is not meant for itself.
    Family,
    /// Anybody else.
    Outside,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A signal reached this process.
    Signal(i32, Sender),
    /// A signal stopped the child, in a session with a terminal.
    ChildStopped(i32),
    /// A signal stopped the child, in a session without one.
    ChildStoppedUnseen,
    /// The child was continued.
    ChildContinued,
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the signal to the child.
    Forward(i32),
    /// Stop this process by the signal; it is continued when that returns.
    StopSelf(i32),
    /// Send SIGCONT to the child if it is still stopped.
    ContinueChild,
}

impl Job {
    /// The next state, and what to do on the way there.
    pub(crate) fn step(self, event: Event) -> (Self, Option<Action>) {
        match (self, event) {
            (Self::Stopped | Self::Left, Event::Signal(libc::SIGCONT, _)) => {
                (Self::Running, Some(Action::ContinueChild))
            }
            (Self::Running, Event::Signal(libc::SIGCONT, _)) => (self, None),
            // The kernel tells of children.
            (_, Event::Signal(libc::SIGCHLD, _)) => (self, None),
            (_, Event::Signal(signal, Sender::Outside | Sender::HangUp)) => {
                (self, Some(Action::Forward(signal)))
            }
            (_, Event::Signal(_, Sender::Terminal | Sender::Family)) => (self, None),
            (_, Event::ChildStopped(signal)) => (Self::Stopped, Some(Action::StopSelf(signal))),
            (_, Event::ChildStoppedUnseen) => (Self::Left, None),
            (_, Event::ChildContinued) => (Self::Running, None),
        }
    }
}

/// Who sent `received`, given whether this process leads its session and whether the sender `is_family`.
pub(crate) fn sender(
    received: Received,
    leads_session: bool,
    is_family: impl FnOnce(i32) -> bool,
) -> Sender {
    use crate::signals::Origin;
    match received.origin {
        // tty_hangup tells the session's leader only, and waits for it to end before it tells the others (tty_jobctrl.c).
        Origin::Kernel if received.signal == libc::SIGHUP && leads_session => Sender::HangUp,
        Origin::Kernel => Sender::Terminal,
        Origin::Process(pid) if is_family(pid) => Sender::Family,
        Origin::Process(_) => Sender::Outside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Origin;

    fn run(events: &[Event]) -> (Job, Vec<Action>) {
        let mut actions = Vec::new();
        let end = events.iter().fold(Job::Running, |job, event| {
            let (job, action) = job.step(*event);
            actions.extend(action);
            job
        });
        (end, actions)
    }

    #[test]
    fn what_the_child_has_already_is_not_sent_again() {
        let events = [
            Event::Signal(libc::SIGINT, Sender::Terminal),
            Event::Signal(libc::SIGWINCH, Sender::Terminal),
            Event::Signal(libc::SIGTSTP, Sender::Terminal),
            Event::Signal(libc::SIGUSR1, Sender::Family),
            Event::Signal(libc::SIGCHLD, Sender::Terminal),
        ];
        assert_eq!(run(&events), (Job::Running, vec![]));
    }

    #[test]
    fn what_only_this_process_got_is_forwarded() {
        for signal in [libc::SIGTERM, libc::SIGTSTP, libc::SIGINT] {
            assert_eq!(
                run(&[Event::Signal(signal, Sender::Outside)]),
                (Job::Running, vec![Action::Forward(signal)])
            );
        }
        assert_eq!(
            run(&[Event::Signal(libc::SIGHUP, Sender::HangUp)]).1,
            [Action::Forward(libc::SIGHUP)]
        );
    }

    const CONT: Event = Event::Signal(libc::SIGCONT, Sender::Outside);

    #[test]
    fn a_stop_is_mirrored_and_a_shells_continue_is_nobody_elses() {
        let events = [
            Event::Signal(libc::SIGTSTP, Sender::Terminal),
            Event::ChildStopped(libc::SIGTSTP),
            Event::ChildContinued,
            CONT,
        ];
        assert_eq!(
            run(&events),
            (Job::Running, vec![Action::StopSelf(libc::SIGTSTP)])
        );
    }

    #[test]
    fn whoever_is_continued_alone_continues_the_child() {
        let (job, actions) = run(&[
            Event::ChildStopped(libc::SIGSTOP),
            Event::Signal(libc::SIGTERM, Sender::Outside),
            CONT,
            Event::ChildContinued,
            CONT,
        ]);
        assert_eq!(job, Job::Running);
        assert_eq!(
            actions,
            [
                Action::StopSelf(libc::SIGSTOP),
                Action::Forward(libc::SIGTERM),
                Action::ContinueChild,
            ]
        );
    }

    #[test]
    fn a_continue_that_is_seen_late_does_not_undo_the_next_stop() {
        let stop = Event::ChildStopped(libc::SIGTSTP);
        // The child was continued and stopped again before this process looked.
        for events in [&[stop, Event::ChildContinued, stop][..], &[stop, stop]] {
            let (job, actions) = run(events);
            assert_eq!(job, Job::Stopped);
            assert_eq!(actions, [Action::StopSelf(libc::SIGTSTP); 2]);
        }
    }

    #[test]
    fn without_a_terminal_only_the_child_stops() {
        let stop = Event::ChildStoppedUnseen;
        assert_eq!(run(&[stop]), (Job::Left, vec![]));
        assert_eq!(
            run(&[stop, stop, CONT]),
            (Job::Running, vec![Action::ContinueChild])
        );
        assert_eq!(run(&[stop, Event::ChildContinued]), (Job::Running, vec![]));
    }

    #[test]
    fn senders() {
        let from =
            |signal, origin, leads| sender(Received { signal, origin }, leads, |pid| pid == 7);
        assert_eq!(from(libc::SIGINT, Origin::Kernel, true), Sender::Terminal);
        assert_eq!(from(libc::SIGHUP, Origin::Kernel, false), Sender::Terminal);
        assert_eq!(from(libc::SIGHUP, Origin::Kernel, true), Sender::HangUp);
        assert_eq!(from(libc::SIGHUP, Origin::Process(7), true), Sender::Family);
        assert_eq!(
            from(libc::SIGHUP, Origin::Process(8), true),
            Sender::Outside
        );
    }
}
