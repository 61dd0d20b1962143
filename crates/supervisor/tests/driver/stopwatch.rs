//! A static program that times its own calls, alone and under a supervisor.

use std::ffi::OsString;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Calls of each kind. The listener's queue is shorter: each connection is closed before the next.
const CONNECTS: usize = 2_000;
const CALLS: u32 = 1_000_000;

/// `ADDRESS`: prints the median of connects to it, and the mean of calls that nobody asks about, in nanoseconds.
pub(crate) fn time(args: &[OsString]) -> ExitCode {
    let address = args[0].to_str().expect("an address is text");
    let mut connects: Vec<Duration> = (0..CONNECTS).map(|_| time_connect(address)).collect();
    connects.sort();
    let started = now();
    for _ in 0..CALLS {
        let _parent = rustix::process::getppid();
    }
    let call = started.elapsed() / CALLS;
    let median = connects[CONNECTS / 2].as_nanos();
    super::print(&format!("connect {median} call {}", call.as_nanos()));
    ExitCode::SUCCESS
}

fn time_connect(address: &str) -> Duration {
    let started = now();
    let stream = TcpStream::connect(address).expect("the server accepts");
    let taken = started.elapsed();
    drop(stream);
    taken
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program's one reading of the time"
)]
fn now() -> Instant {
    Instant::now()
}
