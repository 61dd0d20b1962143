//! Our connections to the target itself: marked, so that they are not redirected again; and which connections at its
//! port are ours, so that nobody takes them for its clients'.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::marks::AGENT_MARK;

/// The connections at the target's ports that we have a hand in: the address there, and that of the other end.
#[derive(Debug, Default)]
pub(super) struct Ours {
    pairs: Mutex<HashSet<(SocketAddr, SocketAddr)>>,
    count: watch::Sender<usize>,
}

/// One of them, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Claim {
    pair: (SocketAddr, SocketAddr),
    ours: Arc<Ours>,
}

/// A connection to the target.
#[derive(Debug)]
pub(super) struct Passage {
    socket: TcpStream,
    _claim: Claim,
}

impl Ours {
    /// Claims the connection between `local` at the target and `peer`.
    pub(super) fn claim(self: &Arc<Self>, local: SocketAddr, peer: SocketAddr) -> Claim {
        let pair = (local, peer);
        self.lock().insert(pair);
        self.count.send_modify(|count| *count += 1);
        let ours = Arc::clone(self);
        Claim { pair, ours }
    }

    /// Waits until there are none.
    pub(super) async fn none_left(&self) {
        let mut count_rx = self.count.subscribe();
        // The sender lives in `self`.
        count_rx.wait_for(|count| *count == 0).await.ok();
    }

    /// Whether a connection is one of them.
    pub(super) fn has(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        self.lock().contains(&(local, peer))
    }

    /// Connects to the target's own port.
    ///
    /// # Errors
    /// The target's, as its client would have seen it.
    pub(super) async fn connect(self: &Arc<Self>, target: SocketAddr) -> io::Result<Passage> {
        let domain = Domain::for_address(target);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_mark(AGENT_MARK)?;
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        socket.bind(&any.into())?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let socket = socket.connect(target).await?;
        socket.set_nodelay(true)?;
        let claim = self.claim(target, socket.local_addr()?);
        Ok(Passage {
            socket,
            _claim: claim,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(SocketAddr, SocketAddr)>> {
        self.pairs
            .lock()
            .expect("nothing panics while addresses are looked up")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ours.lock().remove(&self.pair);
        self.ours.count.send_modify(|count| *count -= 1);
    }
}

impl Passage {
    /// Lets the target see a cut connection rather than an orderly end, once it is dropped.
    pub(super) fn abort(&self) {
        // A socket that is gone already needs none.
        self.socket.set_zero_linger().ok();
    }
}

impl AsyncRead for Passage {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Passage {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
