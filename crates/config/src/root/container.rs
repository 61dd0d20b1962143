//! `container`, `internal_proxy`, `external_proxy`, `startup_retry` and `ci`: parts of mirrord that Bough does without.
//! Read and checked; nothing of them is used.

use std::net::IpAddr;

use crate::decode::{Report, record};
use crate::root::address::Address;
use crate::tree::Node;

record! {
    /// How `mirrord container` runs.
    pub(crate) struct Container {
        /// The image with the command line in it.
        /// Example: `"registry.internal/cli:latest"`
        cli_image: Option<String>,
        /// Further arguments for its container.
        /// Example: `["-p", "8080:8080"]`
        cli_extra_args: Vec<String> = Vec::new(),
        /// Whether its container stays after its end.
        cli_prevent_cleanup: bool = false,
        /// Where in the image the library is.
        /// Example: `"/opt/lib/layer.so"`
        cli_image_lib_path: Option<String>,
        /// The address of this machine as containers see it.
        /// Example: `"172.17.0.1"`
        override_host_ip: Option<Address<IpAddr>>,
        /// Whether that address is looked for.
        host_gateway_detection: bool = true,
        /// Where in the container the certificate is.
        /// Example: `"/opt/tls/cert.pem"`
        cli_tls_path: String = "/opt/mirrord/tls/mirrord-tls.pem".to_owned(),
        /// The platform of the container.
        /// Example: `"linux/amd64"`
        platform: Option<String>,
    }
}

record! {
    /// The helper of a session.
    pub(crate) struct InternalProxy {
        /// Seconds that it waits for its first connection.
        /// Example: `120`
        start_idle_timeout: u64 = 60,
        /// Seconds that it lives without a connection.
        /// Example: `30`
        idle_timeout: u64 = 5,
        /// Seconds that a socket may be silent.
        /// Example: `3600`
        socket_timeout: u64 = 31_536_000,
        /// Seconds between signs of life.
        /// Example: `10`
        ping_interval: u64 = 30,
        /// What it logs.
        /// Example: `"debug"`
        log_level: String = "mirrord=info,warn".to_owned(),
        /// Where it logs to.
        /// Example: `"/tmp/proxy.log"`
        log_destination: Option<String>,
        /// Whether it logs in JSON.
        json_log: bool = true,
        /// Seconds between its lines on processes.
        /// Example: `10`
        process_logging_interval: u64 = 60,
    }
}

record! {
    /// The helper of a session in a container.
    pub(crate) struct ExternalProxy {
        /// Whether it speaks TLS.
        tls_enable: bool = true,
        /// Seconds that it waits for its first connection.
        /// Example: `120`
        start_idle_timeout: u64 = 60,
        /// Seconds that it lives without a connection.
        /// Example: `30`
        idle_timeout: u64 = 5,
        /// What it logs.
        /// Example: `"debug"`
        log_level: String = "mirrord=info,warn".to_owned(),
        /// Where it logs to.
        /// Example: `"/tmp/proxy.log"`
        log_destination: Option<String>,
        /// Whether it logs in JSON.
        json_log: bool = true,
        /// The address that it listens on.
        /// Example: `"0.0.0.0"`
        host_ip: Option<Address<IpAddr>>,
    }
}

record! {
    /// How often the API server is asked again at the start.
    pub(crate) struct StartupRetry {
        /// Milliseconds between tries at least.
        /// Example: `100`
        min_ms: u64 = 500,
        /// Milliseconds between tries at most.
        /// Example: `1000`
        max_ms: u64 = 5000,
        /// How often.
        /// Example: `5`
        max_retries: u32 = 2,
    }
}

impl StartupRetry {
    pub(super) fn check(&self, node: &Node<'_>, report: &mut Report) {
        if self.max_ms == 0 {
            let place = node.get("max_ms").unwrap_or_else(|| node.clone());
            report.problem(&place, "\"max_ms\" is at least 1");
        } else if self.min_ms > self.max_ms {
            let place = node.get("min_ms").unwrap_or_else(|| node.clone());
            report.problem(
                &place,
                format!(
                    "\"min_ms\" is larger than \"max_ms\": {} and {}",
                    self.min_ms, self.max_ms
                ),
            );
        }
    }
}

record! {
    /// Continuous integration.
    pub(crate) struct Ci {
        /// The folder for what the program prints.
        /// Example: `"/tmp/out"`
        output_dir: Option<String>,
    }
}
