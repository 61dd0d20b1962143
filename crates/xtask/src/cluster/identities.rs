//! Who may ask the node's API server: users known by tokens, and the key that signs service accounts; and who may ask
//! its kubelet: the API server, known by a certificate.
//!
//! Tokens in place of client certificates for users: the node is a test's, its files are root's alone, and nothing but
//! this machine reaches it.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::json;

use super::components::API_SERVER;
use super::namespaces::NODE;
use super::place::Place;

/// The user whom the API server grants everything.
pub(super) const ADMINISTRATOR: &str = "admin";

/// The files of this module, in the node's directory.
pub(super) const TOKENS: &str = "users/tokens.csv";
pub(super) const SIGNING_KEY: &str = "service-accounts/private.pem";
pub(super) const VERIFYING_KEY: &str = "service-accounts/public.pem";
pub(super) const AUTHORITY: &str = "kubelet-client/authority.pem";
pub(super) const KUBELET_CLIENT: &str = "kubelet-client/certificate.pem";
pub(super) const KUBELET_CLIENT_KEY: &str = "kubelet-client/private.pem";

/// The group that the API server grants everything.
const ADMINISTRATORS: &str = "system:masters";

/// Makes all users and keys anew.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn make(place: &Place) -> Result<()> {
    let mut tokens = String::new();
    for (user, groups) in users() {
        let token = format!("{:032x}", rand::random::<u128>());
        tokens.push_str(&token_line(&token, &user, groups));
        let config = kubeconfig(place, &token).to_string();
        let path = place.kubeconfig(&user);
        let name = path.strip_prefix(place.directory());
        let name = name.context("users are in the node's directory")?;
        place.write(&name.display().to_string(), &config)?;
    }
    place.write(TOKENS, &tokens)?;
    let key = KeyPair::generate().context("make the key of service accounts")?;
    place.write(SIGNING_KEY, &key.serialize_pem())?;
    place.write(VERIFYING_KEY, &key.public_key_pem())?;
    make_kubelet_client(place).context("make the API server's certificate")
}

/// The certificate that the API server shows to the kubelet, of an authority that signs nothing else.
fn make_kubelet_client(place: &Place) -> Result<()> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority
        .distinguished_name
        .push(DnType::CommonName, format!("kubelet clients of {NODE}"));
    let key = KeyPair::generate()?;
    place.write(AUTHORITY, &authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    let mut client = CertificateParams::default();
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let name = &mut client.distinguished_name;
    name.push(DnType::CommonName, "kube-apiserver");
    name.push(DnType::OrganizationName, ADMINISTRATORS);
    let key = KeyPair::generate()?;
    place.write(KUBELET_CLIENT, &client.signed_by(&key, &issuer)?.pem())?;
    place.write(KUBELET_CLIENT_KEY, &key.serialize_pem())?;
    Ok(())
}

/// The users that components and the administrator ask as, with their groups.
fn users() -> Vec<(String, &'static str)> {
    vec![
        (ADMINISTRATOR.to_owned(), ADMINISTRATORS),
        ("system:kube-controller-manager".to_owned(), ""),
        ("system:kube-scheduler".to_owned(), ""),
        (node_user(), "system:nodes"),
        ("system:kube-proxy".to_owned(), "system:node-proxier"),
    ]
}

/// The kubelet's user.
pub(super) fn node_user() -> String {
    format!("system:node:{NODE}")
}

/// A line of a token file (Kubernetes documentation, "Static token file").
fn token_line(token: &str, user: &str, groups: &str) -> String {
    format!("{token},{user},{user},\"{groups}\"\n")
}

/// JSON is YAML.
fn kubeconfig(place: &Place, token: &str) -> serde_json::Value {
    let authority = place.path("certificates/apiserver.crt");
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": NODE,
            "cluster": { "server": API_SERVER, "certificate-authority": authority },
        }],
        "users": [{ "name": NODE, "user": { "token": token } }],
        "contexts": [{ "name": NODE, "context": { "cluster": NODE, "user": NODE } }],
        "current-context": NODE,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_user_has_a_token_of_its_own_that_only_root_reads() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::in_directory(dir.path());
        make(&place).expect("made");
        let tokens = std::fs::read_to_string(place.path(TOKENS)).expect("written");
        assert_eq!(tokens.lines().count(), users().len());
        for (user, _) in users() {
            let config = std::fs::read_to_string(place.kubeconfig(&user)).expect("written");
            let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
            let token = config["users"][0]["user"]["token"].as_str().expect("text");
            assert!(tokens.contains(&format!("{token},{user},")), "{user}");
        }
        for name in [TOKENS, SIGNING_KEY, KUBELET_CLIENT_KEY] {
            let metadata = std::fs::metadata(place.path(name)).expect("written");
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{name}");
        }
    }
}
