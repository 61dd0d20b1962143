//! `experimental`: what mirrord tries out. Read and checked; nothing of it is used.

use std::collections::BTreeMap;

use crate::decode::{Anything, defaults, record};

record! {
    /// Delays for outgoing connections.
    pub(crate) struct Latency {
        /// Milliseconds before what is sent.
        /// Example: `50`
        transmit_delay: u64 = 0,
        /// Milliseconds before what is received.
        /// Example: `50`
        receive_delay: u64 = 0,
    }
}

record! {
    /// What mirrord tries out.
    pub(crate) struct Experimental {
        /// Answers of its own to a certain ping.
        tcp_ping4_mock: bool = true,
        /// Any certificate on macOS.
        trust_any_certificate: bool = false,
        /// Programs that are started by others.
        enable_exec_hooks_linux: bool = true,
        /// Interfaces without IPv6.
        hide_ipv6_interfaces: bool = false,
        /// Sockets without SO_REUSEADDR.
        /// Example: `true`
        disable_reuseaddr: Option<bool>,
        /// /dev/null for files that are not there.
        use_dev_null: bool = true,
        /// Milliseconds that an idle connection to the process is kept.
        /// Example: `1000`
        idle_local_http_connection_timeout: u64 = 3000,
        /// The system's proxies left alone.
        ignore_system_proxy_config: bool = false,
        /// A header put in by the browser.
        browser_extension_config: bool = false,
        /// Where the patching on macOS is logged.
        /// Example: `"/tmp/sip.log"`
        sip_log_destination: Option<String>,
        /// Connections that do not block.
        non_blocking_tcp_connect: bool = true,
        /// Libraries in Go that are loaded later.
        dlopen_cgo: bool = false,
        /// Delays for outgoing connections.
        /// Example: `{"transmit_delay": 50}`
        latency: Latency = defaults(),
        /// Variables of macOS.
        /// Example: `{}`
        applev: Option<BTreeMap<String, Anything>>,
        /// Programs of macOS that are brought along.
        sip_utils: bool = true,
        /// Calls from Go into C.
        /// Example: `true`
        go_asmcgocall: Option<bool>,
        /// The three standard descriptors left alone.
        /// Example: `true`
        guard_std_fds: Option<bool>,
    }
}
