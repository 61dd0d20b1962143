//! What `run` and a keeper say to each other, once: an order, then an answer, as JSON over the socket that is the
//! keeper's standard input. So secrets are in no argument and in no file.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use model::{Namespace, TargetRef};
use serde::{Deserialize, Serialize};

use super::companions::PublishedPort;
use super::registry::TargetNetwork;

/// Bytes of an order at most. Arguments and environment of a process have at most 6 MiB (execve(2)), and a byte takes up
/// to four here.
const ORDER_BYTES_MAX: u64 = 32 << 20;

/// Bytes of an answer at most: it holds a path and the system's words.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What a keeper is to start. Has no `Debug`: arguments and environment may hold secrets.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// Where the register is.
    pub(super) data_dir: PathBuf,
    /// The target.
    pub(super) target: TargetRef,
    /// Its namespace.
    pub(super) namespace: Namespace,
    /// Ports that it is to listen on.
    pub(super) ports: Vec<u16>,
    /// The program.
    pub(super) program: OsString,
    /// Its arguments.
    pub(super) args: Vec<OsString>,
    /// Its whole environment.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub(super) directory: PathBuf,
    /// Whether the keeper's program can be the companions as well.
    pub(super) has_companions: bool,
    /// Which network is wanted.
    pub(super) network: NetworkChoice,
    /// What is to lead to the target's ports.
    pub(super) published: Vec<PublishedPort>,
    /// Ports that somebody on this machine answers on already.
    pub(super) taken: Vec<u16>,
}

/// Which network a target is to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkChoice {
    /// One of its own where the machine allows it.
    #[default]
    Auto,
    /// One of its own.
    Own,
    /// The machine's.
    Machine,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It runs, and is registered.
    Started {
        /// Its pid.
        pid: i32,
        /// When it started, in clock ticks since the machine did.
        start_ticks: u64,
        /// Its network.
        network: TargetNetwork,
        /// Where it is met; none where it has no companions.
        place: Option<PathBuf>,
    },
    /// It does not.
    Refused(Refusal),
}

/// Why a keeper did not start a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// It runs already.
    Running {
        /// Its pid.
        pid: i32,
    },
    /// Somebody is starting or stopping it.
    Busy,
    /// The program cannot be started.
    Program {
        /// What was tried and why it failed.
        message: String,
        /// The exit code that shells have for it, or ours.
        exit_code: u8,
    },
    /// Something on this machine answers on its port.
    PortTaken {
        /// The port.
        port: u16,
    },
    /// A port cannot be published.
    Publish {
        /// Why.
        message: String,
    },
    /// A network of its own was asked for, and is not to be had.
    Network {
        /// Why.
        message: String,
    },
    /// It cannot be registered.
    Register {
        /// What was tried and why it failed.
        message: String,
    },
}

/// Sends `order` and waits for the answer.
///
/// # Errors
/// When the keeper ended before it answered, or speaks another version of this.
pub(super) fn ask(mut socket: UnixStream, order: &Order) -> io::Result<Answer> {
    socket.write_all(&serde_json::to_vec(order)?)?;
    socket.shutdown(Shutdown::Write)?;
    read(&mut socket, ANSWER_BYTES_MAX)
}

/// Waits for an order.
///
/// # Errors
/// When whoever started this process is gone, or is no `run` of this version.
pub(super) fn take_order(socket: &mut UnixStream) -> io::Result<Order> {
    read(socket, ORDER_BYTES_MAX)
}

/// Answers, and ends the conversation.
///
/// # Errors
/// When whoever asked is gone.
pub(super) fn give_answer(socket: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    socket.write_all(&serde_json::to_vec(answer)?)?;
    socket.shutdown(Shutdown::Both)
}

fn read<T: for<'a> Deserialize<'a>>(socket: &mut UnixStream, bytes_max: u64) -> io::Result<T> {
    let mut text = Vec::new();
    socket.take(bytes_max).read_to_end(&mut text)?;
    if text.is_empty() {
        let message = "the other side ended without a word";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn bytes_that_are_not_utf_8_arrive_as_they_are() {
        let raw = OsString::from_vec(vec![b'a', 0xff, b'=']);
        let order = Order {
            data_dir: "/d".into(),
            target: "pod/p".parse().unwrap(),
            namespace: Namespace::default(),
            ports: vec![1, 65_535],
            program: raw.clone(),
            args: vec![raw.clone()],
            environment: vec![(raw.clone(), raw.clone())],
            directory: "/".into(),
            has_companions: false,
            network: NetworkChoice::Auto,
            published: Vec::new(),
            taken: Vec::new(),
        };
        let (asking, mut asked) = UnixStream::pair().unwrap();
        let answer = std::thread::spawn(move || ask(asking, &order));
        let order = take_order(&mut asked).unwrap();
        assert_eq!(order.program, raw);
        assert_eq!(order.environment, [(raw.clone(), raw.clone())]);
        let busy = Answer::Refused(Refusal::Busy);
        give_answer(&mut asked, &busy).unwrap();
        let answer = answer.join().unwrap().unwrap();
        assert!(matches!(answer, Answer::Refused(Refusal::Busy)));
    }

    #[test]
    fn a_keeper_that_ends_without_an_answer_is_an_error() {
        let (mut asking, asked) = UnixStream::pair().unwrap();
        drop(asked);
        let error = read::<Answer>(&mut asking, ANSWER_BYTES_MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
