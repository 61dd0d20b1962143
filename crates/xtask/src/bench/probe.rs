//! The program that is measured in sessions: this one again, which times its own calls and says what it found.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::stopwatch::{Stopwatch, median};
use crate::console;

/// Connects of which the median counts; each is closed before the next, so that no listener's queue fills.
const CONNECTS: usize = 2_000;

/// Calls of which the mean counts.
const CALLS: u32 = 1_000_000;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// What is timed.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    #[command(subcommand)]
    what: Probe,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Probe {
    /// Says the median of connects to an address, in microseconds
    Connect {
        /// Where a server takes them
        address: SocketAddr,
    },
    /// Says the mean of a call that nobody asks about, in nanoseconds
    Call,
    /// Says at how many megabytes a second a server sends until it closes
    Receive {
        /// Where that server listens
        address: SocketAddr,
    },
}

/// Measures, and says the number.
pub(crate) fn run(args: &ProbeArgs) -> Result<()> {
    let number = match args.what {
        Probe::Connect { address } => connect(address)?,
        Probe::Call => call(),
        Probe::Receive { address } => receive(address)?,
    };
    Ok(console::result(&number.to_string())?)
}

fn connect(address: SocketAddr) -> Result<f64> {
    let mut times = Vec::with_capacity(CONNECTS);
    for _ in 0..CONNECTS {
        let watch = Stopwatch::start();
        let stream = TcpStream::connect(address).context("connect")?;
        times.push(watch.total() * 1e3);
        drop(stream);
    }
    Ok(median(&times))
}

fn call() -> f64 {
    let watch = Stopwatch::start();
    for _ in 0..CALLS {
        let _parent = rustix::process::getppid();
    }
    watch.total() * 1e6 / f64::from(CALLS)
}

fn receive(address: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let watch = Stopwatch::start();
    let mut bytes = 0_u64;
    loop {
        match stream.read(&mut buffer).context("receive")? {
            0 => break,
            read => bytes += u64::try_from(read)?,
        }
    }
    let megabytes = f64::from(u32::try_from(bytes / 1000)?) / 1e3;
    Ok(megabytes / (watch.total() / 1e3))
}
