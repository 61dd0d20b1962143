//! The server's side of `exec` over a WebSocket, as bytes: what a program said, and how it ended.
//!
//! The hello is RFC 6455's, the channels are those of `v4.channel.k8s.io`: 1 is what it said, 3 how it ended.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::json;

/// What the client's key is hashed with (<https://www.rfc-editor.org/rfc/rfc6455#section-1.3>).
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// All that the server says, from its hello to its end.
pub(super) fn answer(key: &str, said: &str, is_success: bool) -> Vec<u8> {
    let accept = base64(
        digest(
            &SHA1_FOR_LEGACY_USE_ONLY,
            format!("{key}{MAGIC}").as_bytes(),
        )
        .as_ref(),
    );
    let hello = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    );
    let status = if is_success { "Success" } else { "Failure" };
    let ended = json!({"metadata": {}, "status": status}).to_string();
    let mut bytes = hello.into_bytes();
    bytes.extend(message(1, said.as_bytes()));
    bytes.extend(message(3, ended.as_bytes()));
    // The end: a normal one.
    bytes.extend([0x88, 2, 0x03, 0xe8]);
    bytes
}

/// One whole binary message for a channel.
fn message(channel: u8, text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len() + 1).expect("a short text");
    let mut frame = vec![0x82];
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(short),
        _ => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.push(channel);
    frame.extend(text);
    frame
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| {
            bits << 8 | u32::from(three.get(at).copied().unwrap_or_default())
        });
        for at in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * at) & 63).expect("six bits");
            text.push(if at <= three.len() {
                char::from(DIGITS[digit])
            } else {
                '='
            });
        }
    }
    text
}
