//! What a program sent last, before it ended: whole at the other end, or cut, as it was sent.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use fixtures::let_pass;
use serde_json::json;

use super::{network_file, run_with};
use crate::story::{LIMIT, Story};

/// More than all buffers on the way hold.
const BYTES: usize = 6_000_000;

/// Sends so many bytes and ends; with a third argument, by a reset.
const UPLOAD: &str = r#"
import socket, struct, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
s.sendall(b'x' * int(sys.argv[2]))
if len(sys.argv) > 3: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
s.close()
"#;

#[test]
fn what_a_program_sent_before_it_ended_arrives_whole_and_a_cut_arrives_as_one() -> Result<()> {
    let story = Story::begin()?;
    story.deploy_idle()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    let (heard_tx, heard_rx) = mpsc::channel();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut count, mut bytes) = (0, vec![0; 65_536]);
            let end = loop {
                match client.read(&mut bytes) {
                    Ok(0) => break None,
                    Ok(read) => count += read,
                    Err(error) => break Some(error.kind()),
                }
                // The reader is what is slow.
                let_pass(Duration::from_millis(5));
            };
            let _test_is_over = heard_tx.send((count, end));
        }
    });
    let file = network_file(&story, &json!({"incoming": "off"}))?;
    let all = BYTES.to_string();
    for flags in [&[][..], &["--assert-isolated"]] {
        let whole = ["python3", "-c", UPLOAD, &port, &all];
        run_with(&story, &file, flags, &whole)?.outcome.success()?;
        assert_eq!(heard_rx.recv_timeout(LIMIT)?, (BYTES, None), "{flags:?}");
        let cut = ["python3", "-c", UPLOAD, &port, "3", "cut"];
        run_with(&story, &file, flags, &cut)?.outcome.success()?;
        let (_, end) = heard_rx.recv_timeout(LIMIT)?;
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "{flags:?}");
    }
    story.end()
}
