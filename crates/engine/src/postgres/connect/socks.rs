//! The client's side of a SOCKS5 proxy that listens on a Unix socket (RFC 1928): CONNECT without authentication.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

/// The protocol's version.
const VERSION: u8 = 5;

/// The one method of authentication that is asked for: none.
const NO_AUTHENTICATION: u8 = 0;

/// What is asked for.
const CONNECT: u8 = 1;

/// Types of addresses.
const VERSION_4: u8 = 1;
const NAME: u8 = 3;
const VERSION_6: u8 = 4;

/// Why a proxy made no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocksError {
    /// Nobody is there: whoever's network it leads into has ended.
    #[error("there is no proxy at {path:?}: {source}")]
    NoProxy { path: PathBuf, source: io::Error },
    /// It broke off, or is none.
    #[error("the proxy broke off: {0}")]
    Broken(#[from] io::Error),
    /// Its own word on the connection.
    #[error("{0}")]
    Refused(&'static str),
    /// No name may be as long as this one.
    #[error("the host's name has more than 255 bytes")]
    Name,
}

/// Connects to `host` at `port` by the proxy at `path`. An IP address is asked for as one, any other host by its name.
pub(super) async fn connect(path: &Path, host: &str, port: u16) -> Result<UnixStream, SocksError> {
    let request = request(host, port)?;
    let stream = UnixStream::connect(path).await;
    let mut stream = stream.map_err(|source| SocksError::NoProxy {
        path: path.to_owned(),
        source,
    })?;
    ask(&mut stream, &request).await?;
    Ok(stream)
}

fn request(host: &str, port: u16) -> Result<Vec<u8>, SocksError> {
    let mut request = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(VERSION_4);
            request.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(VERSION_6);
            request.extend(ip.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len()).map_err(|_| SocksError::Name)?;
            request.extend([NAME, length]);
            request.extend(host.as_bytes());
        }
    }
    request.extend(port.to_be_bytes());
    Ok(request)
}

async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> Result<(), SocksError> {
    stream.write_all(&[VERSION, 1, NO_AUTHENTICATION]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen != [VERSION, NO_AUTHENTICATION] {
        return Err(SocksError::Refused("the proxy wants a password"));
    }
    stream.write_all(request).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, reply, _reserved, kind] = head;
    let rest = match kind {
        VERSION_4 => 4,
        VERSION_6 => 16,
        NAME => stream.read_u8().await?.into(),
        _ => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    };
    // The address that it dialled from, and the port.
    let mut from = vec![0; rest + 2];
    stream.read_exact(&mut from).await?;
    if version != VERSION {
        return Err(io::Error::from(io::ErrorKind::InvalidData).into());
    }
    match reply {
        0 => Ok(()),
        failed => Err(SocksError::Refused(describe(failed))),
    }
}

/// The reply's meaning (RFC 1928, section 6).
fn describe(reply: u8) -> &'static str {
    match reply {
        2 => "the connection is not allowed",
        3 => "the network is unreachable",
        4 => "the host is unreachable, or its name unknown",
        5 => "the connection is refused",
        6 => "no answer in time",
        _ => "the proxy failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_asked_for_as_what_they_are() {
        let asked = |host| request(host, 5432).unwrap();
        assert_eq!(asked("db"), b"\x05\x01\x00\x03\x02db\x15\x38");
        assert_eq!(
            asked("127.0.0.1"),
            b"\x05\x01\x00\x01\x7f\x00\x00\x01\x15\x38"
        );
        assert_eq!(asked("::1")[..4], [5, 1, 0, 4]);
        assert!(matches!(
            request(&"n".repeat(256), 1),
            Err(SocksError::Name)
        ));
    }

    /// What comes of asking a proxy that says these bytes.
    async fn told(says: &[u8]) -> Result<(), SocksError> {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(says).await.unwrap();
        theirs.shutdown().await.unwrap();
        ask(&mut ours, &request("db", 5432).unwrap()).await
    }

    #[tokio::test]
    async fn what_a_proxy_says_is_told_and_nonsense_is_none() {
        let said = |reply: u8| [5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0];
        assert!(told(&said(0)).await.is_ok());
        let refused = told(&said(5)).await.unwrap_err();
        assert_eq!(refused.to_string(), "the connection is refused");
        let wants = told(&[5, 2]).await.unwrap_err();
        assert_eq!(wants.to_string(), "the proxy wants a password");
        for cut in [
            &b""[..],
            b"\x05",
            b"\x05\x00\x05\x00\x00\x01",
            b"\x05\x00\x05\x00\x00\x09",
        ] {
            let broken = told(cut).await.unwrap_err();
            assert!(matches!(broken, SocksError::Broken(_)), "{broken}");
        }
    }
}
