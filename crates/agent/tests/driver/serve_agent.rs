//! The smallest program around the agent, for its tests: `serve-agent SOCKET RESOLV_CONF HOSTS ROOT PROCESS GRACE_SECONDS`.
//!
//! The proxy is served at `SOCKET.proxy`. Reads its key as hexadecimal digits from the first line of standard input, says `ready` once its socket takes
//! sessions, and ends with the end of standard input.

use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use agent::{Listener, Settings};
use wire::AgentKey;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let outcome = runtime.block_on(run());
    // A thread may still be reading standard input.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "{error:?}").ok();
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), agent::RunError> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().expect("six arguments");
    let socket = argument();
    let settings = Settings {
        key: read_key(),
        resolv_conf: argument().into(),
        hosts: argument().into(),
        root: argument().into(),
        process: argument().parse().ok(),
        grace: Duration::from_secs(argument().parse().expect("seconds")),
        idle: None,
        hands_off: None,
    };
    let listener = tokio::net::UnixListener::bind(&socket).expect("the socket can be bound");
    let proxy = tokio::net::UnixListener::bind(format!("{socket}.proxy"));
    let proxy = proxy.expect("the socket can be bound");
    let proxy_settings = settings.clone();
    writeln!(io::stdout(), "ready").expect("somebody listens");
    let end = async {
        let read = || io::stdin().read_to_end(&mut Vec::new());
        tokio::task::spawn_blocking(read).await.ok();
    };
    tokio::select! {
        ended = agent::run(settings, Listener::Unix(listener), end) => ended,
        never = agent::proxy::serve(&proxy_settings, proxy) => match never {},
    }
}

fn read_key() -> AgentKey {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .expect("a key comes first");
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip(line.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).expect("hexadecimal digits");
        *byte = u8::from_str_radix(digits, 16).expect("hexadecimal digits");
    }
    AgentKey::new(key)
}
