//! Container images as one file: an OCI image layout in a tar, which every container runtime imports.
//!
//! Image Format and Image Layout specifications of the Open Container Initiative, version 1.0. Layers are not
//! compressed: they are read once, on the machine that made them. The same layers give the same bytes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::Layer;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// How much of a file is hashed at once.
const CHUNK_BYTES: usize = 1 << 20;

/// An image.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    /// What it is asked for by, with its tag.
    pub(crate) name: &'a str,
    /// Other names of the same one.
    pub(crate) also: &'static [&'static str],
    /// From the lowest to the highest.
    pub(crate) layers: Vec<Blob>,
    /// What a container of it runs and as whom: the `config` of the Image Format.
    pub(crate) config: Value,
}

/// Content that is named by its digest.
#[derive(Debug)]
pub(crate) struct Blob {
    digest: String,
    bytes: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Here(Vec<u8>),
    In(PathBuf),
}

impl Blob {
    /// Of bytes at hand.
    pub(crate) fn of(content: Vec<u8>) -> Self {
        Self {
            digest: name(Sha256::digest(&content).as_slice()),
            bytes: content.len() as u64,
            content: Content::Here(content),
        }
    }

    /// A layer that was put together here.
    ///
    /// # Errors
    /// When its archive cannot be finished.
    pub(crate) fn of_layer(layer: Layer) -> Result<Self> {
        Ok(Self::of(layer.finish()?))
    }

    /// A file, read when the image is packed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of_file(path: &Path) -> Result<Self> {
        let hashed = hash(path).with_context(|| format!("read {}", path.display()))?;
        let (digest, bytes) = hashed;
        Ok(Self {
            digest,
            bytes,
            content: Content::In(path.to_owned()),
        })
    }

    fn describe(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": self.digest, "size": self.bytes })
    }

    fn append(&self, archive: &mut tar::Builder<impl Write>) -> Result<()> {
        let path = format!("blobs/{}", self.digest.replace(':', "/"));
        match &self.content {
            Content::Here(bytes) => append(archive, &path, self.bytes, bytes.as_slice()),
            Content::In(file) => {
                let opened = File::open(file);
                let opened = opened.with_context(|| format!("open {}", file.display()))?;
                append(archive, &path, self.bytes, opened.take(self.bytes))
            }
        }
    }
}

/// Writes an image as an archive.
///
/// # Errors
/// When a layer cannot be read, or the archive not be written.
pub(crate) fn pack(image: &Image<'_>, to: impl Write) -> Result<()> {
    let layers = image.layers.iter();
    let differences: Vec<&str> = layers.map(|layer| layer.digest.as_str()).collect();
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": image.config,
        "rootfs": { "type": "layers", "diff_ids": differences },
    });
    let config = Blob::of(config.to_string().into_bytes());
    let layers = image.layers.iter().map(|layer| layer.describe(LAYER_TYPE));
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.describe(CONFIG_TYPE),
        "layers": layers.collect::<Vec<_>>(),
    });
    let manifest = Blob::of(manifest.to_string().into_bytes());
    let names = [image.name].into_iter().chain(image.also.iter().copied());
    let described = names.map(|name| {
        let mut described = manifest.describe(MANIFEST_TYPE);
        described["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rsplit(':').next(),
        });
        described
    });
    let described: Vec<Value> = described.collect();
    let index = json!({ "schemaVersion": 2, "manifests": described }).to_string();
    let mut archive = tar::Builder::new(to);
    for blob in image.layers.iter().chain([&config, &manifest]) {
        blob.append(&mut archive)?;
    }
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    append(
        &mut archive,
        "oci-layout",
        layout.len() as u64,
        layout.as_slice(),
    )?;
    append(
        &mut archive,
        "index.json",
        index.len() as u64,
        index.as_bytes(),
    )?;
    let mut to = archive.into_inner().context("finish the archive")?;
    to.flush().context("finish the archive")
}

/// The machine's architecture in the words of Go, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    bytes: u64,
    content: impl Read,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes);
    archive
        .append_data(&mut header, path, content)
        .with_context(|| format!("pack {path}"))
}

fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((name(digest.finalize().as_slice()), bytes));
        }
        digest.update(&chunk[..read]);
        bytes += read as u64;
    }
}

fn name(hash: &[u8]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("an archive");
        let files = entries.map(|entry| {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("its content");
            (path, content)
        });
        files.collect()
    }

    #[test]
    fn an_archive_leads_from_its_index_to_every_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().join("base.tar");
        let mut lower = Layer::default();
        lower.file("etc/name", 0o644, b"lower").expect("put in");
        std::fs::write(&base, lower.finish().expect("finished")).expect("written");
        let packed = || {
            let mut upper = Layer::default();
            upper.file("bin/program", 0o755, b"content").expect("in");
            let image = Image {
                name: "localhost/one:1",
                also: &["localhost/one:2"],
                layers: vec![
                    Blob::of_file(&base).expect("read"),
                    Blob::of_layer(upper).expect("finished"),
                ],
                config: json!({ "Entrypoint": ["/bin/program"] }),
            };
            let mut archive = Vec::new();
            pack(&image, &mut archive).expect("it is packed");
            archive
        };
        let archive = packed();
        assert!(archive == packed(), "the same layers give the same bytes");
        let blobs = unpack(&archive);
        let blob = |described: &Value| {
            let digest = described["digest"].as_str().expect("a digest");
            let content = &blobs[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(described["size"], content.len());
            assert_eq!(name(Sha256::digest(content).as_slice()), digest);
            content.clone()
        };
        let index: Value = serde_json::from_slice(&blobs["index.json"]).expect("JSON");
        let manifest = &index["manifests"][0];
        let named = &manifest["annotations"]["io.containerd.image.name"];
        assert_eq!(named, "localhost/one:1");
        let other = &index["manifests"][1];
        assert_eq!(other["digest"], manifest["digest"]);
        let named = &other["annotations"]["io.containerd.image.name"];
        assert_eq!(named, "localhost/one:2");
        let manifest: Value = serde_json::from_slice(&blob(manifest)).expect("JSON");
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).expect("JSON");
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/program");
        for (at, path, content) in [(0, "etc/name", "lower"), (1, "bin/program", "content")] {
            let layer = &manifest["layers"][at];
            assert_eq!(config["rootfs"]["diff_ids"][at], layer["digest"]);
            assert_eq!(unpack(&blob(layer))[path], content.as_bytes());
        }
    }
}
