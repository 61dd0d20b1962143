//! When something has to be said though nobody asked: acknowledgements, keepalive, and when to give a link up.

use std::time::Duration;

/// Silence after which the other side is asked whether it is there.
pub(super) const PING_AFTER: Duration = Duration::from_secs(4);

/// Silence after which the link counts as lost: a crashed session is seen within 15 s.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(12);

/// The longest that a received frame waits for its acknowledgement.
pub(super) const ACK_WITHIN: Duration = Duration::from_millis(25);

/// Received bytes that are acknowledged at once: a fraction of what the sender keeps.
pub(super) const ACK_BYTES: usize = 256 * 1024;

/// Received frames that are acknowledged at once, for the same reason.
pub(super) const ACK_FRAMES: usize = 1024;

/// The clockwork of one link. Times are those of the connection.
#[derive(Debug)]
pub(super) struct Liveness {
    heard_at: Duration,
    /// A ping is out, or due.
    asked: bool,
    ping_due: bool,
    pong_due: Option<u64>,
    unacked_bytes: usize,
    unacked_frames: usize,
    ack_due: Option<Duration>,
    ack_ready: bool,
}

/// What has to be said about the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ack,
    Ping,
    Pong { token: u64 },
}

impl Liveness {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            heard_at: now,
            asked: false,
            ping_due: false,
            pong_due: None,
            unacked_bytes: 0,
            unacked_frames: 0,
            ack_due: None,
            ack_ready: false,
        }
    }

    /// A frame came, of whatever kind.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard_at = now;
        self.asked = false;
        self.ping_due = false;
    }

    /// A numbered frame of so many bytes came.
    pub(super) fn owe_ack(&mut self, bytes: usize, now: Duration) {
        self.unacked_bytes += bytes;
        self.unacked_frames += 1;
        if self.unacked_bytes >= ACK_BYTES || self.unacked_frames >= ACK_FRAMES {
            self.ack_ready = true;
        }
        if !self.ack_ready {
            self.ack_due.get_or_insert(now + ACK_WITHIN);
        }
    }

    /// A ping came. Of several before an answer, the last one counts.
    pub(super) fn owe_pong(&mut self, token: u64) {
        self.pong_due = Some(token);
    }

    /// Takes what is due; it is said now.
    pub(super) fn take_due(&mut self) -> Option<Due> {
        if std::mem::take(&mut self.ack_ready) {
            self.ack_due = None;
            self.unacked_bytes = 0;
            self.unacked_frames = 0;
            return Some(Due::Ack);
        }
        if let Some(token) = self.pong_due.take() {
            return Some(Due::Pong { token });
        }
        if self.ping_due {
            self.ping_due = false;
            return Some(Due::Ping);
        }
        None
    }

    /// When to look again.
    pub(super) fn next_timeout(&self) -> Duration {
        let silence = if self.asked { LOST_AFTER } else { PING_AFTER };
        let silent_at = self.heard_at + silence;
        self.ack_due.map_or(silent_at, |due| due.min(silent_at))
    }

    /// Looks at the time; whether the link is lost.
    pub(super) fn handle_timeout(&mut self, now: Duration) -> bool {
        if self.ack_due.take_if(|due| *due <= now).is_some() {
            self.ack_ready = true;
        }
        let silence = now.saturating_sub(self.heard_at);
        if silence >= PING_AFTER && !self.asked {
            self.asked = true;
            self.ping_due = true;
            // Whoever slept himself asks before he gives up.
            self.heard_at = self.heard_at.max(now.saturating_sub(PING_AFTER));
            return false;
        }
        silence >= LOST_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn silence_is_asked_about_and_then_given_up() {
        let mut liveness = Liveness::new(START);
        assert_eq!(liveness.next_timeout(), START + PING_AFTER);
        assert!(!liveness.handle_timeout(START + PING_AFTER));
        assert_eq!(liveness.take_due(), Some(Due::Ping));
        assert_eq!(liveness.next_timeout(), START + LOST_AFTER);
        assert!(!liveness.handle_timeout(START + LOST_AFTER - Duration::from_millis(1)));
        assert!(liveness.handle_timeout(START + LOST_AFTER));
    }

    #[test]
    fn an_answer_keeps_the_link() {
        let mut liveness = Liveness::new(START);
        liveness.handle_timeout(START + PING_AFTER);
        liveness.hear(START + LOST_AFTER - Duration::from_millis(1));
        assert!(!liveness.handle_timeout(START + LOST_AFTER));
    }

    #[test]
    fn who_was_stopped_himself_asks_before_he_gives_up() {
        let mut liveness = Liveness::new(START);
        let late = START + Duration::from_secs(3600);
        assert!(!liveness.handle_timeout(late));
        assert_eq!(liveness.take_due(), Some(Due::Ping));
        assert!(!liveness.handle_timeout(late + Duration::from_secs(7)));
        assert!(liveness.handle_timeout(late + Duration::from_secs(8)));
    }

    #[test]
    fn acknowledgements_wait_a_little_for_company_but_not_for_much() {
        let mut liveness = Liveness::new(START);
        liveness.owe_ack(100, START);
        assert_eq!(liveness.take_due(), None);
        assert_eq!(liveness.next_timeout(), START + ACK_WITHIN);
        liveness.handle_timeout(START + ACK_WITHIN);
        assert_eq!(liveness.take_due(), Some(Due::Ack));
        assert_eq!(liveness.take_due(), None);
        liveness.owe_ack(ACK_BYTES, START);
        assert_eq!(liveness.take_due(), Some(Due::Ack));
    }

    #[test]
    fn many_small_frames_are_acknowledged_at_once() {
        let mut liveness = Liveness::new(START);
        for _ in 1..ACK_FRAMES {
            liveness.owe_ack(1, START);
            assert_eq!(liveness.take_due(), None);
        }
        liveness.owe_ack(1, START);
        assert_eq!(liveness.take_due(), Some(Due::Ack));
        liveness.owe_ack(1, START);
        assert_eq!(liveness.take_due(), None, "counted from there on");
    }

    #[test]
    fn a_ping_is_answered_once_with_its_own_token() {
        let mut liveness = Liveness::new(START);
        liveness.owe_pong(7);
        liveness.owe_pong(8);
        assert_eq!(liveness.take_due(), Some(Due::Pong { token: 8 }));
        assert_eq!(liveness.take_due(), None);
    }
}
