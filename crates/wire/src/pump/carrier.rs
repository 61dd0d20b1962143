//! One link: what it brings goes into the connection, what the connection says goes out, as late as the link takes it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Shared;
use super::outbox::Outbox;

/// Bytes that one read of a link asks for.
const READ_SIZE: usize = 64 * 1024;

/// The longest that the last words of a session wait for a link that takes nothing, and for the other side's end.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);

/// One link that carries a session, for as long as it is served. Made where the link is attached, so that whoever waits
/// for last words waits for those of a link that nobody serves yet as well.
pub(super) struct Carrier {
    shared: Arc<Shared>,
    /// The link's number.
    ours: u64,
}

impl Carrier {
    pub(super) fn begin(shared: &Arc<Shared>, ours: u64) -> Self {
        shared.carriers.send_modify(|carriers| *carriers += 1);
        Self {
            shared: Arc::clone(shared),
            ours,
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.shared.carriers.send_modify(|carriers| *carriers -= 1);
    }
}

/// Where the session stands after it has spoken.
enum Next {
    /// The link carries it; look again at the time given.
    Linked(Option<Duration>),
    /// The session is over; what it said last is in the outbox.
    Over,
    /// The link was given up.
    Apart,
    /// Another link carries the session.
    Replaced,
}

/// Carries the session until its link is lost, another link takes over, or the session is over. `input` and `outbox`
/// hold what the greeting left.
pub(super) async fn carry<T>(
    carrier: Carrier,
    transport: T,
    mut input: BytesMut,
    mut outbox: Outbox,
) where
    T: AsyncRead + AsyncWrite,
{
    let (shared, ours) = (&carrier.shared, carrier.ours);
    // What changed before is seen by the first word, what changes from here on by this.
    let mut links_rx = shared.links.subscribe();
    let (mut reader, mut writer) = tokio::io::split(transport);
    receive(shared, ours, &mut input);
    loop {
        let deadline = match speak(shared, ours, &mut outbox) {
            Next::Linked(deadline) => deadline,
            Next::Over => {
                let farewell = async {
                    while outbox.has_remaining() {
                        writer.write_all_buf(&mut outbox).await?;
                        // What had no room.
                        speak(shared, ours, &mut outbox);
                    }
                    part(&mut reader, &mut writer).await
                };
                // Best effort: a link that takes nothing is dropped.
                tokio::time::timeout(FAREWELL_WITHIN, farewell).await.ok();
                break;
            }
            Next::Apart => break,
            Next::Replaced => {
                // The nudge that was taken up here may have been the other link's.
                shared.speak.notify_one();
                return;
            }
        };
        input.reserve(READ_SIZE);
        let goes_on = tokio::select! {
            _ = links_rx.changed() => return,
            written = writer.write_buf(&mut outbox), if outbox.has_remaining() => {
                let is_taken = written.is_ok_and(|count| count > 0);
                if !is_taken {
                    // Whoever hung up has said his last words before, which may still be on their way.
                    let rest = hear_out(shared, ours, &mut reader, &mut input);
                    tokio::time::timeout(FAREWELL_WITHIN, rest).await.ok();
                }
                is_taken
            }
            read = reader.read_buf(&mut input) => {
                receive(shared, ours, &mut input);
                read.is_ok_and(|count| count > 0)
            }
            () = shared.speak.notified() => true,
            () = shared.clock.wait_until(deadline) => {
                let now = shared.clock.now();
                shared.quiet_step(|inner| inner.connection.handle_timeout(now));
                true
            }
        };
        if !goes_on {
            break;
        }
    }
    // Best effort: the other side sees that nothing more comes.
    tokio::time::timeout(FAREWELL_WITHIN, writer.shutdown())
        .await
        .ok();
    let now = shared.clock.now();
    shared.quiet_step(|inner| {
        if shared.is_carried_by(ours) {
            inner.connection.detach(now);
        }
    });
}

/// Ends a link after the last words: what is closed with something unread takes with it what was written and is still on
/// its way (RFC 9293, section 3.10.4; unix(7) has it so as well), so that the other side's end is waited for.
async fn part<R, W>(reader: &mut R, writer: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    writer.shutdown().await?;
    tokio::io::copy(reader, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Reads the link `ours` to its end.
async fn hear_out<R>(shared: &Arc<Shared>, ours: u64, reader: &mut R, input: &mut BytesMut)
where
    R: AsyncRead + Unpin,
{
    loop {
        input.reserve(READ_SIZE);
        let read = reader.read_buf(input).await;
        receive(shared, ours, input);
        if !read.is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// Gives what came by the link `ours` to the connection. What comes by a link that was replaced comes again by the new
/// one, which was told what had been received by then.
fn receive(shared: &Arc<Shared>, ours: u64, input: &mut BytesMut) {
    let now = shared.clock.now();
    shared.quiet_step(|inner| {
        if shared.is_carried_by(ours) {
            // A violation closes the session, whose farewell then goes out.
            inner.connection.receive(input, now).ok();
        }
    });
}

/// Fills the outbox of the link `ours`. What is taken for it counts as sent, so that a replaced one gets nothing.
fn speak(shared: &Arc<Shared>, ours: u64, outbox: &mut Outbox) -> Next {
    shared.quiet_step(|inner| {
        if !shared.is_carried_by(ours) {
            return Next::Replaced;
        }
        let connection = &mut inner.connection;
        while outbox.has_room()
            && let Some(frame) = connection.poll_transmit()
        {
            outbox.push(frame);
        }
        if connection.is_closed() {
            Next::Over
        } else if connection.is_linked() {
            Next::Linked(connection.next_timeout())
        } else {
            Next::Apart
        }
    })
}
