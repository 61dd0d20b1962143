//! A static program that talks to a PostgreSQL server without a driver: nothing of it goes through a shared library.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

/// `ADDRESS`: connects again and again, for as long as it lives.
pub(crate) fn dial_forever(args: &[OsString]) -> ExitCode {
    let address = args[0].to_str().expect("an address is text");
    loop {
        drop(TcpStream::connect(address));
    }
}

/// `ADDRESS DATABASE`: begins a session and prints what the server says, or `errno N` where it cannot connect.
pub(crate) fn dial(args: &[OsString]) -> ExitCode {
    let text = |at: usize| args[at].to_str().expect("arguments are text");
    let connected = if text(0).starts_with('/') {
        UnixStream::connect(text(0)).map(|stream| Box::new(stream) as Box<dyn Both>)
    } else {
        TcpStream::connect(text(0)).map(|stream| Box::new(stream) as Box<dyn Both>)
    };
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => {
            super::print(&format!("errno {}", error.raw_os_error().unwrap_or(0)));
            return ExitCode::FAILURE;
        }
    };
    let parameters = format!("user\0me\0database\0{}\0\0", text(1));
    let length = u32::try_from(parameters.len() + 8).expect("it is short");
    let mut packet = length.to_be_bytes().to_vec();
    packet.extend_from_slice(&[0, 3, 0, 0]);
    packet.extend_from_slice(parameters.as_bytes());
    stream.write_all(&packet).expect("the server takes it");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("the server answers");
    super::print(&String::from_utf8_lossy(&said));
    ExitCode::SUCCESS
}
