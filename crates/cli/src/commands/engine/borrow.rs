//! `engine borrow`: a Unix socket beside the engine that leads to a source which only somebody's target reaches, for as long
//! as whoever runs this lends the way.
//!
//! Its standard input and output carry the wire, by which connections are asked for and made at the other end. Owns the
//! socket and its folder, for the engine's account alone, which go with the loan. Dials nothing itself but to learn whether
//! it has to borrow.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::proxy::{self, Network};
use clap::Args;
use model::ExitCode;
use tokio::io::{
    AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy, duplex, split, stdin, stdout,
};
use tokio::net::{TcpStream, UnixListener};
use tokio::time::timeout;
use wire::pump::{self, ConnectError, OpenFailure, Session, Stream};
use wire::{Endpoint, Errno, OpenRequest, SessionId, SessionKey};

use crate::contexts::{LOAN_GRACE, LoanAnswer, LoanWish};
use crate::error::CommandError;
use crate::settings::Settings;

/// How long the wish may take to come.
const WISH_WITHIN: Duration = Duration::from_secs(10);

/// How long looking a name up and dialling may take: what takes longer is no way that anybody would use.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Bytes that wait in each direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Borrow a way to a source from whoever is at the other end
#[derive(Debug, Args)]
pub(super) struct BorrowArgs {}

/// Why nothing is borrowed.
#[derive(Debug, thiserror::Error)]
enum BorrowError {
    #[error("no wish came on standard input")]
    Wish,
    #[error("cannot make a socket in {path}")]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot answer")]
    Answer(#[source] io::Error),
    #[error("nobody lends the way")]
    Lender(#[from] ConnectError),
}

/// Says how it stands in one line, and serves the engine until the loan is over.
pub(super) async fn run(settings: &Settings) -> Result<(), CommandError> {
    let borrowed = borrow(&settings.data_dir.join("run")).await;
    borrowed.map_err(|error| CommandError::new(ExitCode::Internal, error))
}

async fn borrow(sockets: &Path) -> Result<(), BorrowError> {
    let (mut input, mut output) = (BufReader::new(stdin()), stdout());
    let wish = timeout(WISH_WITHIN, LoanWish::hear(&mut input)).await;
    let wish = wish.ok().flatten().ok_or(BorrowError::Wish)?;
    let (id, key) = wish.credential().ok_or(BorrowError::Wish)?;
    let mut say = async |answer: LoanAnswer| {
        output.write_all(answer.line().as_bytes()).await?;
        output.flush().await
    };
    if wish.tries_itself && answers(&wish.host, wish.port).await {
        return say(LoanAnswer::Reached).await.map_err(BorrowError::Answer);
    }
    let folder = Folder::make(sockets)?;
    let listener = folder.listen()?;
    let answer = LoanAnswer::Waits(folder.socket());
    say(answer).await.map_err(BorrowError::Answer)?;
    let (ours, theirs) = duplex(BUFFER_BYTES);
    // What is written to standard output goes out with a flush alone, which `copy` does whenever it waits.
    let carrying = async {
        let (mut from_wire, mut to_wire) = split(theirs);
        tokio::select! {
            said = copy(&mut from_wire, &mut output) => said,
            heard = copy(&mut input, &mut to_wire) => heard,
        }
    };
    tokio::select! {
        served = serve(ours, (id, key), listener) => Ok(served?),
        _ended = carrying => Ok(()),
    }
}

/// Serves whoever comes to `listener` by what is lent over `link`, until that ends.
///
/// # Errors
/// [`ConnectError`] when nobody lends.
async fn serve<T>(
    link: T,
    (id, key): (SessionId, SessionKey),
    listener: UnixListener,
) -> Result<(), ConnectError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut link = Some(link);
    let dial = move || {
        let link = link.take();
        async move { link.ok_or_else(|| io::ErrorKind::NotConnected.into()) }
    };
    let (session, _inbox) = pump::connect(dial, id, key, LOAN_GRACE).await?;
    tokio::select! {
        _over = session.closed() => Ok(()),
        never = proxy::serve_into(Lent(session.clone()), listener) => match never {},
    }
}

/// Whether anybody answers from here.
async fn answers(host: &str, port: u16) -> bool {
    let dialled = timeout(LOOK_WITHIN, TcpStream::connect((host, port))).await;
    dialled.is_ok_and(|dialled| dialled.is_ok())
}

/// The network at the lender's end.
struct Lent(Session);

impl Network for Lent {
    type Connection = Stream;

    async fn dial(&self, to: Endpoint) -> Result<Stream, Errno> {
        let opened = self.0.open(OpenRequest::Tcp { destination: to }).await;
        match opened {
            Ok((stream, _)) => Ok(stream),
            Err(OpenFailure::Refused { errno }) => Err(errno),
            Err(OpenFailure::NotAsked { .. }) => Err(Errno::EHOSTUNREACH),
        }
    }

    fn cut(connection: &Stream) {
        connection.reset(Errno::ECONNRESET);
    }
}

/// Where the socket is; gone with this.
struct Folder(PathBuf);

impl Folder {
    /// Beside the sockets of the engine's servers, of which the next engine removes what is left.
    fn make(sockets: &Path) -> Result<Self, BorrowError> {
        let path = sockets.join(format!("lent-{:08x}", rand::random::<u32>()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(BorrowError::Socket { path, source }),
        }
    }

    fn socket(&self) -> PathBuf {
        self.0.join("proxy.sock")
    }

    fn listen(&self) -> Result<UnixListener, BorrowError> {
        UnixListener::bind(self.socket()).map_err(|source| BorrowError::Socket {
            path: self.0.clone(),
            source,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}
