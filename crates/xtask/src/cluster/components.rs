//! The command line and the configuration file of every component.
//!
//! What differs from the usual has its reason here: a machine without systemd, cgroup v1 in places, no capability to
//! lower an OOM score, and no registry.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::cgroups;
use super::identities::{
    self, AUTHORITY, KUBELET_CLIENT, KUBELET_CLIENT_KEY, SIGNING_KEY, TOKENS, VERIFYING_KEY,
};
use super::images::PAUSE;
use super::namespaces::{NODE, NODE_ADDRESS, Namespaces};
use super::place::{Component, Place};
use super::programs::Programs;

/// Where the API server is reached, from the machine and from the node.
pub(super) const API_SERVER: &str = "https://10.99.0.2:6443";

const ETCD: &str = "http://127.0.0.1:2379";
const ETCD_PEERS: &str = "http://127.0.0.1:2380";
const SERVICES: &str = "10.96.0.0/16";
const NAME_SERVER: &str = "10.96.0.10";
const PODS: &str = "10.244.0.0/16";
const PODS_OF_NODE: &str = "10.244.0.0/24";

/// The command that becomes a component, in the node's namespaces.
pub(super) fn command(
    component: Component,
    place: &Place,
    namespaces: &Namespaces,
    programs: &Programs,
) -> Command {
    let path = |name: &str| place.path(name).display().to_string();
    let user = |name: &str| format!("--kubeconfig={}", place.kubeconfig(name).display());
    let flag = |name: &str, value: String| format!("--{name}={value}");
    let arguments: Vec<String> = match component {
        Component::Etcd => vec![
            flag("data-dir", path("etcd")),
            // A test's node outlives no power failure.
            "--unsafe-no-fsync".into(),
            flag("listen-client-urls", ETCD.into()),
            flag("advertise-client-urls", ETCD.into()),
            flag("listen-peer-urls", ETCD_PEERS.into()),
            "--log-level=warn".into(),
        ],
        Component::Containerd => vec![flag("config", path("containerd.toml"))],
        Component::ApiServer => vec![
            flag("etcd-servers", ETCD.into()),
            "--bind-address=0.0.0.0".into(),
            flag("advertise-address", NODE_ADDRESS.into()),
            flag("external-hostname", NODE_ADDRESS.into()),
            flag("cert-dir", path("certificates")),
            flag("service-cluster-ip-range", SERVICES.into()),
            flag("token-auth-file", path(TOKENS)),
            "--authorization-mode=Node,RBAC".into(),
            "--allow-privileged=true".into(),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            flag("service-account-key-file", path(VERIFYING_KEY)),
            flag("service-account-signing-key-file", path(SIGNING_KEY)),
            flag("kubelet-client-certificate", path(KUBELET_CLIENT)),
            flag("kubelet-client-key", path(KUBELET_CLIENT_KEY)),
            // Without it exec and logs look the node's name up.
            "--kubelet-preferred-address-types=InternalIP".into(),
        ],
        Component::ControllerManager => vec![
            user("system:kube-controller-manager"),
            "--leader-elect=false".into(),
            flag("service-account-private-key-file", path(SIGNING_KEY)),
            flag("flex-volume-plugin-dir", path("volume-plugins")),
            flag("root-ca-file", path("certificates/apiserver.crt")),
            "--use-service-account-credentials=true".into(),
        ],
        Component::Scheduler => {
            vec![user("system:kube-scheduler"), "--leader-elect=false".into()]
        }
        Component::Kubelet => vec![
            user(&identities::node_user()),
            flag("config", path("kubelet.json")),
            flag("root-dir", path("kubelet")),
            flag("cert-dir", path("kubelet-certificate")),
            flag("hostname-override", NODE.into()),
            // Without it every status of the node waits 10 s for a name.
            flag("node-ip", NODE_ADDRESS.into()),
        ],
        Component::Proxy => vec![flag("config", path("proxy.json"))],
    };
    let mut command = match component {
        Component::Etcd | Component::Containerd => {
            namespaces.process_inside(Path::new(component.name()))
        }
        Component::ApiServer
        | Component::ControllerManager
        | Component::Scheduler
        | Component::Kubelet
        | Component::Proxy => {
            let mut command = namespaces.process_inside(&programs.node);
            command.arg(component.name());
            command
        }
    };
    command.args(arguments);
    command
}

/// Writes the files that command lines name.
///
/// # Errors
/// When one cannot be written.
pub(super) fn configure(place: &Place) -> Result<()> {
    place.write("containerd.toml", &containerd(place))?;
    place.write("cni/10-pods.conflist", &pod_network(place).to_string())?;
    place.write("kubelet.json", &kubelet(place).to_string())?;
    place.write("proxy.json", &proxy(place).to_string())?;
    Ok(())
}

fn containerd(place: &Place) -> String {
    let quoted = |name: &str| format!("{:?}", place.path(name).display().to_string());
    let (root, state, socket) = (
        quoted("containerd/root"),
        quoted("containerd/state"),
        quoted("containerd.sock"),
    );
    let (networks, optional) = (quoted("cni"), quoted("containerd/optional"));
    format!(
        r#"version = 2
root = {root}
state = {state}
[grpc]
  address = {socket}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = {networks}
[plugins."io.containerd.internal.v1.opt"]
  path = {optional}
"#
    )
}

fn pod_network(place: &Place) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": PODS_OF_NODE }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": place.path("cni-addresses"),
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

fn kubelet(place: &Place) -> serde_json::Value {
    let socket = place.containerd_socket();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        // Every account of the machine and every pod reaches its port, which runs commands in any pod.
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": place.path(AUTHORITY) },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupRoot": cgroups::root(),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20_000,
        "resolvConf": "",
        "clusterDNS": [NAME_SERVER],
        "clusterDomain": "cluster.local",
        "podLogsDir": place.path("pod-logs"),
        "volumePluginDir": place.path("volume-plugins"),
        // Nothing here is pulled again once it is gone.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "1%", "nodefs.available": "1%", "imagefs.available": "1%",
        },
    })
}

fn proxy(place: &Place) -> serde_json::Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": PODS,
        // The machine's own limit stays as it is.
        "conntrack": { "maxPerCore": 0 },
        "clientConnection": { "kubeconfig": place.kubeconfig("system:kube-proxy") },
        "hostnameOverride": NODE,
    })
}
