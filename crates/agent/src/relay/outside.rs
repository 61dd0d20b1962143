//! The thread that stays outside and makes sockets there.

use std::io;
use std::sync::mpsc;
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;

/// Makes sockets in the network namespace that this process was started in.
#[derive(Debug)]
pub(super) struct Outside {
    /// No longer than there are who wait for a socket, and the dials and flows at once have limits of their own.
    orders_tx: mpsc::Sender<Order>,
}

/// Which socket is wanted, and where it goes.
#[derive(Debug)]
struct Order {
    domain: Domain,
    kind: Type,
    made_tx: oneshot::Sender<io::Result<Socket>>,
}

impl Outside {
    /// Starts the thread, in the namespace that the calling thread is in at this moment.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start() -> io::Result<Self> {
        let (orders_tx, orders_rx) = mpsc::channel::<Order>();
        let thread = thread::Builder::new().name("outside".to_owned());
        // It ends with the last sender.
        thread.spawn(move || {
            for order in orders_rx {
                let socket = make(order.domain, order.kind);
                // Whoever asked may have lost interest.
                let _unwanted = order.made_tx.send(socket);
            }
        })?;
        Ok(Self { orders_tx })
    }

    /// A TCP socket that does not block.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn stream(&self, domain: Domain) -> io::Result<Socket> {
        self.order(domain, Type::STREAM).await
    }

    /// A UDP socket that does not block.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn datagram(&self, domain: Domain) -> io::Result<Socket> {
        self.order(domain, Type::DGRAM).await
    }

    async fn order(&self, domain: Domain, kind: Type) -> io::Result<Socket> {
        let (made_tx, made_rx) = oneshot::channel();
        let order = Order {
            domain,
            kind,
            made_tx,
        };
        let gone = || io::Error::other("the thread outside is gone");
        self.orders_tx.send(order).map_err(|_| gone())?;
        made_rx.await.map_err(|_| gone())?
    }
}

fn make(domain: Domain, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    Socket::new(domain, kind.nonblocking(), Some(protocol))
}
