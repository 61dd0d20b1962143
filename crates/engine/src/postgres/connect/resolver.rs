//! Names of sources to addresses, by the machine's `resolv.conf` and `hosts`, without the C library.
//!
//! The program is linked statically, and the C library's lookup would load the machine's name service modules into it,
//! which may crash it. Names that only such a module knows (mDNS, say) are therefore unknown here.

use std::io;
use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Every address of `host`; an address stands for itself.
pub(super) async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let from_system = TokioResolver::builder_tokio();
    // A machine without resolv.conf still has its hosts.
    let mut builder = from_system.unwrap_or_else(|_| {
        TokioResolver::builder_with_config(
            ResolverConfig::default(),
            TokioRuntimeProvider::default(),
        )
    });
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(io::Error::other)?;
    let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
    Ok(found.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_and_the_machine_itself_need_no_server() {
        assert_eq!(
            resolve("127.0.0.1").await.unwrap(),
            ["127.0.0.1".parse::<IpAddr>().unwrap()]
        );
        let local = resolve("localhost").await.unwrap();
        assert!(
            local.iter().all(IpAddr::is_loopback) && !local.is_empty(),
            "{local:?}"
        );
    }
}
