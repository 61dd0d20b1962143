//! Sources that only a proxy reaches: asked, copied, and told of where the way is closed.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use engine::postgres::connect::{ConnectError, Gateway};
use engine::source::SourceAccess;
use engine::source::gateways::Gateways;
use fixtures::TempDir;
use model::engine_api::SourceProxy;
use model::{CopySpec, PgUrl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use crate::source::{Certificates, with_tls};
use crate::stage::{Stage, chain, source};

/// The name that the proxy alone knows. What leads there reaches no resolver.
const HOST: &str = "db.only-there.invalid";

/// A SOCKS5 proxy in which [`HOST`] is this machine, and everything else refused.
struct Proxy {
    home: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn open() -> Self {
        let home = TempDir::new().unwrap();
        let listener = UnixListener::bind(home.path().join("proxy.sock")).unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(lead(client, Arc::clone(&told)));
            }
        });
        Self { home, asked }
    }

    fn proxy(&self) -> SourceProxy {
        SourceProxy {
            network: "deployment/shop -n test".to_owned(),
            socket: self.home.path().join("proxy.sock"),
        }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

async fn lead(mut client: UnixStream, asked: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut greeting = [0; 3];
    client.read_exact(&mut greeting).await?;
    assert_eq!(greeting, [5, 1, 0]);
    client.write_all(&[5, 0]).await?;
    let mut head = [0; 5];
    client.read_exact(&mut head).await?;
    assert_eq!(head[..4], [5, 1, 0, 3], "it is asked by name");
    let mut name = vec![0; head[4].into()];
    client.read_exact(&mut name).await?;
    let name = String::from_utf8(name).unwrap();
    let port = client.read_u16().await?;
    asked.lock().unwrap().push(name.clone());
    let reply = |code| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    if name != HOST {
        return client.write_all(&reply(4)).await;
    }
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(&reply(0)).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// How the source of `url` is reached by `proxy`.
fn access(gateways: &Gateways, proxy: &SourceProxy, url: &str) -> SourceAccess {
    let url = PgUrl::parse(url).unwrap();
    SourceAccess {
        gateway: Some(gateways.to(proxy, &url).unwrap()),
        url,
        database: None,
        settings: BTreeMap::new(),
    }
}

#[tokio::test]
async fn a_source_that_only_a_proxy_reaches_is_copied_through_it() {
    let server = source(16);
    server.execute("postgres", "CREATE DATABASE shop").unwrap();
    let filled = "CREATE TABLE stock AS SELECT n FROM generate_series(1, 1000) n";
    server.execute("shop", filled).unwrap();
    let (proxy, stage, home) = (Proxy::open(), Stage::new().await, TempDir::new().unwrap());
    let gateways = Gateways::new(home.path().to_owned());
    let url = server.superuser_url("shop").replace("127.0.0.1", HOST);
    let access = access(&gateways, &proxy.proxy(), &url);
    let directory = directory_of(&access);
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "nobody else gets in");
    let copied = stage.copy(&access, &CopySpec::all()).await.unwrap();
    let branch = stage.serve(&copied).await;
    assert_eq!(branch.value("SELECT sum(n) FROM stock").await, "500500");
    branch.stop().await;
    assert!(
        proxy.asked() >= 3,
        "questions, pg_dump and rows: {}",
        proxy.asked()
    );
    drop(access);
    assert!(!directory.exists(), "it closes with the last who holds it");
}

fn directory_of(access: &SourceAccess) -> PathBuf {
    let gateway = access.gateway.as_deref().map(Gateway::directory);
    gateway.map(Path::to_owned).unwrap()
}

#[tokio::test]
async fn one_gateway_serves_everybody_who_wants_the_same() {
    let (proxy, home) = (Proxy::open(), TempDir::new().unwrap());
    let gateways = Gateways::new(home.path().to_owned());
    let to =
        |url: &str, proxy: &SourceProxy| gateways.to(proxy, &PgUrl::parse(url).unwrap()).unwrap();
    let first = to("postgres://u@db/shop", &proxy.proxy());
    assert_eq!(first, to("postgres://u@db/shop", &proxy.proxy()));
    assert_ne!(first, to("postgres://u@db:5433/shop", &proxy.proxy()));
    let elsewhere = SourceProxy {
        network: "deployment/other -n test".to_owned(),
        ..proxy.proxy()
    };
    assert_ne!(first, to("postgres://u@db/shop", &elsewhere));
    gateways.close();
    assert!(!first.directory().exists());
}

#[tokio::test]
async fn what_is_in_the_way_is_told_by_the_sources_own_address() {
    let (proxy, home) = (Proxy::open(), TempDir::new().unwrap());
    let gateways = Gateways::new(home.path().to_owned());
    let unknown = access(
        &gateways,
        &proxy.proxy(),
        "postgres://u:p@elsewhere:5433/shop",
    );
    let told = chain(&unknown.connect().await.unwrap_err());
    assert_eq!(
        told,
        "cannot reach PostgreSQL at elsewhere:5433: the host is unreachable, or its name unknown, in the network of \
         deployment/shop -n test"
    );
    let gone = SourceProxy {
        socket: home.path().join("gone.sock"),
        ..proxy.proxy()
    };
    let gone = access(&gateways, &gone, "postgres://u:p@db/shop");
    let told = chain(&gone.connect().await.unwrap_err());
    assert!(told.contains("there is no proxy at"), "{told}");
    for (query, word) in [
        ("channel_binding=require", "channel_binding=require"),
        (
            "sslmode=require&sslnegotiation=direct",
            "sslnegotiation=direct",
        ),
        ("host=a,b", "several hosts"),
    ] {
        let url = PgUrl::parse(&format!("postgres://u:p@db/shop?{query}")).unwrap();
        let refused = gateways.to(&proxy.proxy(), &url).unwrap_err();
        assert!(chain(&refused).contains(word), "{}", chain(&refused));
    }
}

#[tokio::test]
async fn tls_to_the_source_is_as_its_url_wants_it() {
    let certificates = Certificates::make_for(HOST);
    let server = with_tls(&certificates);
    let (proxy, home) = (Proxy::open(), TempDir::new().unwrap());
    let gateways = Gateways::new(home.path().to_owned());
    let root = certificates.path("root.crt").display().to_string();
    let other = certificates.path("other.crt").display().to_string();
    let url = |query: &str| {
        let port = server.port();
        format!("postgres://postgres:postgres@{HOST}:{port}/shop?{query}")
    };
    // The server takes TLS alone.
    for query in [
        "".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=verify-full&sslrootcert={root}"),
    ] {
        let access = access(&gateways, &proxy.proxy(), &url(&query));
        let session = access.connect().await;
        let session = session.unwrap_or_else(|error| panic!("{query}: {}", chain(&error)));
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = session.query_one(encrypted, &[]).await.unwrap();
        assert!(row.get::<_, bool>(0), "{query}");
    }
    let doubted = format!("sslmode=verify-full&sslrootcert={other}");
    let doubted = access(&gateways, &proxy.proxy(), &url(&doubted));
    let told = chain(&doubted.connect().await.unwrap_err());
    assert!(told.contains("no TLS connection"), "{told}");
    let plain = access(&gateways, &proxy.proxy(), &url("sslmode=disable"));
    let refused = plain.connect().await.unwrap_err();
    assert!(
        matches!(refused, ConnectError::NotAllowed { .. }),
        "{}",
        chain(&refused)
    );
}
