//! What the fence costs. Ignored: it measures, and asserts nothing on a machine that does other things.
//!
//! `cargo test -p supervisor --release --test real -- --ignored --nocapture cost`

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::supervise;

const DRIVER: &str = env!("CARGO_BIN_EXE_supervise");

/// Runs of `/bin/true`.
const STARTS: usize = 50;

fn silent_server() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    address
}

fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the time")]
fn median_of(mut command: impl FnMut() -> Command) -> Duration {
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let mut command = command();
            let started = Instant::now();
            command
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[STARTS / 2]
}

#[test]
#[ignore = "a measurement"]
fn cost() {
    let (source, other) = (silent_server(), silent_server());
    let rule = format!("{source}/shop=127.0.0.1:1");
    let time =
        |address: SocketAddr| vec![DRIVER.to_owned(), "--time".to_owned(), address.to_string()];
    let fenced = |program: &[String]| {
        let mut command = supervise(["--fence", &rule]);
        command.args(program);
        command
    };
    let bare = time(source);
    println!(
        "bare                 {}",
        said(Command::new(&bare[0]).args(&bare[1..]))
    );
    println!("redirected           {}", said(&mut fenced(&time(source))));
    println!("looked at, going on  {}", said(&mut fenced(&time(other))));
    let plain = median_of(|| Command::new("/bin/true"));
    let supervised = median_of(|| supervise(["/bin/true"]));
    let guarded = median_of(|| fenced(&["/bin/true".to_owned()]));
    println!("/bin/true            {plain:?}; supervised {supervised:?}; fenced {guarded:?}");
}
