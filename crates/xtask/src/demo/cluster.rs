//! The demo on a Kubernetes: the shop's plain manifests, its database asked through the cluster's service, the operator.
//!
//! ```text
//!   this machine ── kubectl proxy ──> API server ──> service inventory ──> the deployed service
//!   bough exec ──> agent beside the pod; branch host beside the database
//! ```
//!
//! The cluster is ours, brought up for the demo and taken down after it, or the one that `KUBECONFIG` names, where nothing
//! may stand yet of what is made here. All of it is taken away again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fixtures::Program;

use super::shop::{Shop, Stock};
use super::stage::{NAMESPACE, STOCK_SQL, stock_of};
use super::transcript::Transcript;
use super::user::{User, apart};
use crate::cluster::Ready;
use crate::command;
use crate::image::Program as Image;

/// Databases and services in pods, their images there already: seconds, on a busy machine more.
const START_LIMIT: Duration = Duration::from_secs(180);

/// The manifests, in the order in which they are applied.
const MANIFESTS: [&str; 3] = ["namespace.yaml", "database.yaml", "inventory.yaml"];

/// Where the API server passes requests on to the shop's service.
const SERVICE_PATH: &str = "/api/v1/namespaces/metalmart/services/inventory:http/proxy";

/// The pod of the demo's branch host.
const HOST_POD: &str = "bough-host-16-0";

/// The program there.
const HOST_PROGRAM: &str = "/opt/bough/bough";

/// A cluster, and what of it this demo made.
#[derive(Debug)]
pub(super) struct ClusterGround {
    kubeconfig: OsString,
    kubectl: PathBuf,
    /// The port of this machine that leads to the API server.
    port: u16,
    /// What made an operator, where this demo did.
    operator: Option<PathBuf>,
    has_shop: bool,
    proxy: Option<Program>,
}

impl ClusterGround {
    /// A cluster that is ready, with our images.
    ///
    /// # Errors
    /// When somebody has a shop there already.
    pub(super) fn set(user: &mut User, ready: &Ready, port: u16) -> Result<Self> {
        user.env.set("KUBECONFIG", &ready.kubeconfig);
        user.env.set("BOUGH_AGENT_IMAGE", Image::Bough.image());
        let ground = Self {
            kubeconfig: ready.kubeconfig.clone(),
            kubectl: ready.kubectl.clone(),
            port,
            operator: None,
            has_shop: false,
            proxy: None,
        };
        ensure!(
            !ground.has(&["namespace", NAMESPACE]),
            "the cluster has a namespace {NAMESPACE} already, which the demo would have for itself"
        );
        Ok(ground)
    }

    /// What there is, in a line.
    pub(super) fn headline(&self) -> String {
        "PostgreSQL 16 in a Kubernetes is the shared database; the inventory service is deployed on it".to_owned()
    }

    /// The deployed service, through the cluster's own.
    pub(super) fn deployed(&self) -> Shop {
        Shop::below(self.port, SERVICE_PATH.to_owned())
    }

    /// Applies what the shop is, and the operator where there is none.
    pub(super) fn deploy(&mut self, user: &User, transcript: &Transcript) -> Result<()> {
        self.install_operator(user, transcript)?;
        let folder = Path::new("demo/metalmart/k8s");
        let files = MANIFESTS.map(|file| folder.join(file).display().to_string());
        let mut words = vec!["apply"];
        for file in &files {
            words.extend(["-f", file]);
        }
        transcript.command(&format!("kubectl {}", words.join(" ")))?;
        self.has_shop = true;
        transcript.said(&self.ask(&words)?)?;
        let port = self.port.to_string();
        transcript.command(&format!("kubectl proxy --port {port} &"))?;
        let mut proxy = self.kubectl(&["proxy", "--port", &port]);
        // By which its end is looked for.
        proxy.env("HOME", user.env.home());
        let proxy = self.proxy.insert(user.start(proxy)?);
        let deployed = Shop::below(self.port, SERVICE_PATH.to_owned());
        let what = format!("the deployed service answers below port {port}");
        let ready = user
            .interrupt
            .wait_until(&what, START_LIMIT, Some(proxy), || deployed.is_healthy());
        if ready.is_err() {
            transcript.said(&self.ask(&["describe", "pods", "-n", NAMESPACE])?)?;
        }
        ready
    }

    fn install_operator(&mut self, user: &User, transcript: &Transcript) -> Result<()> {
        if self.has(&["customresourcedefinition", "branches.bough.dev"]) {
            return transcript.said("the cluster has an operator already, which is used");
        }
        let image = Image::Bough.image();
        let words = ["operator", "manifests", "--image", image];
        transcript.command(&format!("bough {} | kubectl apply -f -", words.join(" ")))?;
        let manifests = user.run(user.command(&words))?.success()?;
        let file = user.directory().join("operator.yaml");
        std::fs::write(&file, manifests).context("write the operator's manifests")?;
        // Told first, so that what a failure leaves half made goes as well.
        let file = self.operator.insert(file).display().to_string();
        transcript.said(&self.ask(&["apply", "-f", &file])?)
    }

    /// The product's stock, asked in the shared database itself, by the name that the cluster knows it by.
    pub(super) fn shared_stock(&self) -> Result<Stock> {
        let psql =
            r#"PGPASSWORD="$POSTGRES_PASSWORD" exec psql -h postgres -U inventory -Atc "$0""#;
        let words = ["exec", "-n", NAMESPACE, "postgres-0", "--"];
        self.stock(&[&words[..], &["bash", "-c", psql, STOCK_SQL]].concat())
    }

    /// The product's stock, asked in a branch's database itself, in its host's pod.
    pub(super) fn branch_stock(&self, id: &str) -> Result<Stock> {
        let words = ["exec", "-n", NAMESPACE, HOST_POD, "-c", "engine", "--"];
        let psql = [HOST_PROGRAM, "db-branches", "-n", NAMESPACE, "psql", id];
        self.stock(&[&words[..], &psql, &["--", "-Atc", STOCK_SQL]].concat())
    }

    fn stock(&self, words: &[&str]) -> Result<Stock> {
        let answer = self.ask(words)?;
        stock_of(&answer.trim().split('|').collect::<Vec<_>>())
    }

    /// Takes away what was made, branches before their operator.
    ///
    /// # Errors
    /// With what could not be ended.
    pub(super) fn end(&mut self) -> Result<()> {
        drop(self.proxy.take());
        let shop = if self.has_shop {
            self.end_shop()
        } else {
            Ok(())
        };
        let operator = self.operator.take().map_or(Ok(()), |file| {
            let file = file.display().to_string();
            self.delete(&["--ignore-not-found", "-f", &file])
        });
        shop.and(operator)
    }

    fn end_shop(&self) -> Result<()> {
        // Nobody but the operator ends what holds them.
        let branches = if self.has(&["customresourcedefinition", "branches.bough.dev"]) {
            self.delete(&["branches.bough.dev", "--all", "-n", NAMESPACE])
        } else {
            Ok(())
        };
        branches.and(self.delete(&["namespace", NAMESPACE]))
    }

    fn delete(&self, words: &[&str]) -> Result<()> {
        let timeout = format!("--timeout={}s", START_LIMIT.as_secs());
        self.ask(&[&["delete", &timeout], words].concat()).map(drop)
    }

    /// Whether the cluster has an object.
    fn has(&self, words: &[&str]) -> bool {
        command::succeeds(&mut self.kubectl(&[&["get"], words].concat()))
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        command::capture(&mut self.kubectl(words))
    }

    fn kubectl(&self, words: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.args(words).env("KUBECONFIG", &self.kubeconfig);
        kubectl.current_dir(crate::places::workspace());
        apart(&mut kubectl);
        kubectl
    }
}
