//! Names as the target knows them: its own hosts file, then its own servers with its own search list.
//!
//! The C library is not asked: the agent is a static program, whose name service modules would be those of another
//! machine. The order of attempts and what each outcome means follow glibc's `res_search` (resolver(5)).

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use hickory_resolver::config::{ResolveHosts, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Mutex;
use wire::{DnsAnswer, DnsFailure, DnsQuery, DnsRecord, Errno, RECORDS_MAX};

/// For how long an address of the hosts file may be kept: it changes when the file does.
const HOSTS_TTL_SECONDS: u32 = 1;

/// Bytes of `resolv.conf` and `hosts` that are read: tables of blocked hosts have megabytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// The target's resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    loaded: Mutex<Option<Arc<Loaded>>>,
}

/// Both files as they were at one moment.
#[derive(Debug)]
struct Loaded {
    stamp: [Option<Stamp>; 2],
    hosts: Hosts,
    servers: Option<TokioResolver>,
    search: Vec<Name>,
    ndots: usize,
}

/// What tells a changed file from an unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Resolver {
    pub(crate) fn new(resolv_conf: PathBuf, hosts: PathBuf) -> Self {
        Self {
            resolv_conf,
            hosts,
            loaded: Mutex::new(None),
        }
    }

    /// What the target would get for this question.
    pub(crate) async fn resolve(&self, query: &DnsQuery) -> DnsAnswer {
        let asked = Name::from_ascii(&query.name).map_err(|_| DnsFailure::BadName)?;
        self.load().await.search(&asked, query.kind.into()).await
    }

    /// The addresses of `host` with `port`, those of version 4 first.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Errno> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![(ip, port).into()]);
        }
        let asked = Name::from_ascii(host).map_err(|_| Errno::ENOENT)?;
        let loaded = self.load().await;
        let (version_4, version_6) = tokio::join!(
            loaded.find(&asked, RecordType::A),
            loaded.find(&asked, RecordType::AAAA)
        );
        let failure = version_4.as_ref().err().copied();
        let records = version_4.into_iter().chain(version_6).flatten();
        let ips = records.filter_map(|record| record.data.ip_addr());
        let addresses: Vec<SocketAddr> = ips.map(|ip| (ip, port).into()).collect();
        match (addresses.is_empty(), failure) {
            (false, _) => Ok(addresses),
            (true, Some(DnsFailure::TimedOut)) => Err(Errno::ETIMEDOUT),
            (true, Some(DnsFailure::ServerFailed)) => Err(Errno::EHOSTUNREACH),
            (true, Some(DnsFailure::NoSuchName | DnsFailure::Refused | DnsFailure::BadName))
            | (true, None) => Err(Errno::ENOENT),
        }
    }

    /// Both files, read again if one has changed.
    async fn load(&self) -> Arc<Loaded> {
        let mut loaded = self.loaded.lock().await;
        let stamp = [
            tokio::fs::metadata(&self.resolv_conf).await.ok(),
            tokio::fs::metadata(&self.hosts).await.ok(),
        ]
        .map(|metadata| metadata.as_ref().map(Stamp::of));
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.stamp == stamp) {
            return Arc::clone(loaded);
        }
        let resolv_conf = read(&self.resolv_conf).await;
        let hosts = read(&self.hosts).await;
        let fresh = Arc::new(Loaded::parse(stamp, &resolv_conf, &hosts));
        *loaded = Some(Arc::clone(&fresh));
        fresh
    }
}

/// A file's bytes; a missing one is empty, as for the C library.
async fn read(path: &std::path::Path) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    if let Ok(file) = tokio::fs::File::open(path).await {
        // What was read before an error is what there is.
        file.take(FILE_MAX).read_to_end(&mut bytes).await.ok();
    }
    bytes
}

impl Loaded {
    fn parse(stamp: [Option<Stamp>; 2], resolv_conf: &[u8], hosts: &[u8]) -> Self {
        let mut table = Hosts::default();
        if let Err(error) = table.read_hosts_conf(hosts) {
            tracing::warn!(%error, "the target's hosts file cannot be read whole");
        }
        let parsed = parse_resolv_conf(resolv_conf).or_else(|_| {
            // Without a server, the machine itself is asked.
            parse_resolv_conf([resolv_conf, b"\nnameserver 127.0.0.1\n"].concat())
        });
        let (servers, search, ndots) = match parsed {
            Ok((config, options)) => {
                let search = config.search().to_vec();
                let ndots = options.ndots;
                (build(config, options), search, ndots)
            }
            Err(error) => {
                tracing::warn!(%error, "the target's resolv.conf cannot be read");
                (None, Vec::new(), 1)
            }
        };
        Self {
            stamp,
            hosts: table,
            servers,
            search,
            ndots,
        }
    }

    /// The answer to a question about `asked`, as records that lead from that very name.
    async fn search(&self, asked: &Name, kind: RecordType) -> DnsAnswer {
        let records = self.find(asked, kind).await?;
        let mut asked = asked.clone();
        asked.set_fqdn(true);
        let first = records.first().map(|record| record.name.clone());
        let mut answer = Vec::with_capacity(records.len() + 1);
        if let (Some(first), Some(record)) = (first, records.first())
            && first != asked
        {
            answer.push(DnsRecord {
                name: asked.to_ascii(),
                kind: RecordType::CNAME.into(),
                ttl_seconds: record.ttl,
                data: data_of(&first).map_err(|_| DnsFailure::ServerFailed)?,
            });
        }
        for record in records.iter().take(RECORDS_MAX - answer.len()) {
            answer.push(DnsRecord {
                name: record.name.to_ascii(),
                kind: record.record_type().into(),
                ttl_seconds: record.ttl,
                data: data_of(&record.data).map_err(|_| DnsFailure::ServerFailed)?,
            });
        }
        Ok(answer)
    }

    /// The records of the first name of the search list that has some.
    async fn find(&self, asked: &Name, kind: RecordType) -> Result<Vec<Record>, DnsFailure> {
        let query = Query::query(asked.clone(), kind);
        if let Some(lookup) = self.hosts.lookup_static_host(&query) {
            let mut records = lookup.answers().to_vec();
            for record in &mut records {
                record.ttl = HOSTS_TTL_SECONDS;
            }
            return Ok(records);
        }
        let servers = self.servers.as_ref().ok_or(DnsFailure::ServerFailed)?;
        let mut outcomes = BTreeSet::new();
        for name in self.candidates(asked) {
            match servers.lookup(name, kind).await {
                Ok(lookup) if !lookup.answers().is_empty() => return Ok(lookup.answers().to_vec()),
                Ok(_) => {
                    outcomes.insert(Miss::NoData);
                }
                Err(error) => {
                    let miss = Miss::of(&error);
                    if miss == Miss::TimedOut {
                        // Nobody is there: further names would wait as long.
                        return Err(DnsFailure::TimedOut);
                    }
                    outcomes.insert(miss);
                }
            }
        }
        match outcomes.first() {
            Some(Miss::NoData) => Ok(Vec::new()),
            Some(Miss::Failed | Miss::TimedOut) => Err(DnsFailure::ServerFailed),
            Some(Miss::Refused) => Err(DnsFailure::Refused),
            Some(Miss::NoSuchName) => Err(DnsFailure::NoSuchName),
            None => Err(DnsFailure::BadName),
        }
    }

    /// The absolute names to try, in order.
    fn candidates(&self, asked: &Name) -> Vec<Name> {
        let mut absolute = asked.clone();
        absolute.set_fqdn(true);
        if asked.is_fqdn() {
            return vec![absolute];
        }
        let dots = usize::from(asked.num_labels()).saturating_sub(1);
        let searched = self
            .search
            .iter()
            // A name that grows too long is none.
            .filter_map(|domain| asked.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = searched.collect();
        if dots >= self.ndots {
            names.insert(0, absolute);
        } else {
            names.push(absolute);
        }
        names
    }
}

/// What one attempt found instead of records; the first of all attempts' counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    NoData,
    Failed,
    Refused,
    NoSuchName,
    TimedOut,
}

impl Miss {
    fn of(error: &NetError) -> Self {
        let code = if let NetError::Dns(DnsError::NoRecordsFound(missing)) = error {
            missing.response_code
        } else if let NetError::Dns(DnsError::ResponseCode(code)) = error {
            *code
        } else if matches!(error, NetError::Timeout) {
            return Self::TimedOut;
        } else {
            return Self::Failed;
        };
        if code == ResponseCode::NoError {
            Self::NoData
        } else if code == ResponseCode::NXDomain {
            Self::NoSuchName
        } else if code == ResponseCode::Refused {
            Self::Refused
        } else {
            Self::Failed
        }
    }
}

fn build(
    config: hickory_resolver::config::ResolverConfig,
    mut options: ResolverOpts,
) -> Option<TokioResolver> {
    options.use_hosts_file = ResolveHosts::Never;
    // The target's own resolver keeps nothing either, and a service that has just appeared must be found.
    options.cache_size = 0;
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    *builder.options_mut() = options;
    match builder.build() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "the target's resolver cannot be built");
            None
        }
    }
}

/// A name or a record's data as it stands in a message, without pointers to elsewhere in it.
fn data_of(value: &impl BinEncodable) -> Result<bytes::Bytes, io::Error> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    value.emit(&mut encoder).map_err(io::Error::other)?;
    Ok(bytes.into())
}
