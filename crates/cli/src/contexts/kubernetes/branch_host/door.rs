//! Ports of this machine's loopback that lead to branches' doors in a pod, a port-forward for each connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::contexts::kubernetes::pod_agent::forward;

/// The wait after a failed `accept`, which says that descriptors are short.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Listens on a port of its own, and carries what comes to `port` of the pod's loopback.
pub(super) async fn lead(pods: Api<Pod>, pod: String, port: u16) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, _)) => {
                    tokio::spawn(carry(client, pods.clone(), pod.clone(), port));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to a branch cannot be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    });
    Ok(address)
}

async fn carry(mut client: TcpStream, pods: Api<Pod>, pod: String, port: u16) {
    client.set_nodelay(true).ok();
    let carried = async {
        let mut stream = forward(pods, pod, port).await?;
        copy_bidirectional(&mut client, &mut stream).await
    };
    if let Err(error) = carried.await {
        tracing::info!(%error, port, "a connection to a branch broke off");
        client.set_zero_linger().ok();
    }
}
