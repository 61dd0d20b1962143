//! What the documents show as YAML for Kubernetes, as their reader applies it: from the documents' own text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::kubernetes::{Cluster, Namespace};
use crate::operator::Operator;

/// The namespace that the documents speak of.
const NAMESPACE: &str = "namespace: metalmart";

/// How a block begins that is no object by itself but the rules of a role, whichever name that has.
const RULES: &str = "rules:\n";

/// What stands before those.
const ROLE: &str =
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: documents}\n";

/// The documents of a folder and those below it.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            documents(&path, found)?;
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
    Ok(())
}

/// The YAML blocks of a document.
fn blocks(text: &str) -> Result<Vec<&str>> {
    let blocks = text.split("```yaml\n").skip(1);
    let ends = blocks.map(|rest| rest.split_once("```").map(|(block, _)| block));
    ends.collect::<Option<_>>()
        .context("a block without an end")
}

/// Has the API server look at a block, each field of it, and keep nothing.
fn apply(namespace: &Namespace<'_>, block: &str) -> Result<()> {
    let whole = if block.starts_with(RULES) {
        format!("{ROLE}{block}")
    } else {
        ensure!(block.contains("apiVersion: "), "it is of no kind");
        block.replace(NAMESPACE, &format!("namespace: {}", namespace.name()))
    };
    let words = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    namespace.tell(&words, &whole).map(drop)
}

#[test]
fn every_yaml_of_the_documents_is_taken_as_it_stands_there() -> Result<()> {
    let cluster = Cluster::given()?;
    let namespace = cluster.namespace("documents")?;
    let user = cluster.user()?;
    let _rules = Operator::install_rules(&cluster, &user)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = root.context("the tests are below the root")?;
    let mut all = vec![root.join("README.md")];
    documents(&root.join("docs"), &mut all)?;
    let mut count = 0;
    for path in all {
        let text = fs::read_to_string(&path)?;
        for block in blocks(&text)? {
            apply(&namespace, block).with_context(|| format!("{}:\n{block}", path.display()))?;
            count += 1;
        }
    }
    ensure!(count >= 2, "a role and a Source at least, not {count}");

    // What is misspelt is not taken.
    let guide = fs::read_to_string(root.join("docs/guide/kubernetes.md"))?;
    let source = blocks(&guide)?
        .into_iter()
        .find(|it| it.contains("kind: Source"));
    let misspelt = source.context("a Source")?.replace("warmPool", "warmpool");
    let refused = apply(&namespace, &misspelt).err().context("it was taken")?;
    ensure!(refused.to_string().contains("warmpool"), "{refused}");
    Ok(())
}
