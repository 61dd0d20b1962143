//! `iam_auth`: logging in to a source by a cloud provider's identity. Its shape is checked; using it is not supported.

use crate::connection::WrittenVariable;
use crate::decode::{Decode, Report, Word, record, report_kind, words};
use crate::tree::{Node, Value};

words! {
    /// The provider.
    enum Provider : "\"aws_rds\" or \"gcp_cloud_sql\"" {
        /// Amazon RDS.
        AwsRds = "aws_rds",
        /// Google Cloud SQL.
        GcpCloudSql = "gcp_cloud_sql",
    }
}

record! {
    /// Amazon RDS.
    struct AwsRds {
        /// Says which provider this is.
        kind as "type": Provider,
        /// The region.
        region: Option<Checked>,
        /// The access key.
        access_key_id: Option<Checked>,
        /// Its secret.
        secret_access_key: Option<Checked>,
        /// The token of temporary credentials.
        session_token: Option<Checked>,
    }
}

record! {
    /// Google Cloud SQL.
    struct GcpCloudSql {
        /// Says which provider this is.
        kind as "type": Provider,
        /// The service account's key.
        credentials_json: Option<Checked>,
        /// A file with it.
        credentials_path: Option<Checked>,
        /// The project.
        project: Option<Checked>,
    }
}

/// A value that was checked and is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checked;

impl Decode for Checked {
    const EXPECTED: &'static str = WrittenVariable::EXPECTED;

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        WrittenVariable::decode(node, report).map(|WrittenVariable| Self)
    }
}

/// Well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IamAuth;

impl Decode for IamAuth {
    const EXPECTED: &'static str = "an object such as {\"type\": \"aws_rds\"}";

    fn decode(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        if !matches!(node.tree.value, Value::Object(_)) {
            return report_kind(node, Self::EXPECTED, report);
        }
        let Some(kind) = node.get("type") else {
            report
                .problem(node, "the key \"type\" is missing")
                .hint(format!("expected {}", Provider::EXPECTED));
            return None;
        };
        match Provider::decode_word(&kind, Provider::EXPECTED, report)? {
            Provider::AwsRds => AwsRds::decode(node, report).map(|_| Self),
            Provider::GcpCloudSql => GcpCloudSql::decode(node, report).map(|_| Self),
        }
    }
}
