//! `iam_auth`: logging in to a source by a cloud provider's identity. It is read and not used yet.

use crate::connection::Origin;
use crate::decode::{Decode, Render, Report, Shape, Word, record, report_kind, words};
use crate::json::Json;
use crate::tree::{Node, Value};

words! {
    /// The provider.
    pub(super) enum Provider : "\"aws_rds\" or \"gcp_cloud_sql\"" {
        /// Amazon RDS.
        AwsRds = "aws_rds",
        /// Google Cloud SQL.
        GcpCloudSql = "gcp_cloud_sql",
    }
}

record! {
    /// Logging in at Amazon RDS or Aurora.
    pub(super) struct AwsRds {
        /// `"aws_rds"`.
        kind as "type": Provider,
        /// The region; without it that of AWS_REGION or AWS_DEFAULT_REGION.
        /// Example: `{"type": "env", "variable": "AWS_REGION"}`
        region: Option<Origin>,
        /// The access key; without it that of AWS_ACCESS_KEY_ID.
        /// Example: `{"type": "env", "variable": "RDS_KEY_ID"}`
        access_key_id: Option<Origin>,
        /// Its secret; without it that of AWS_SECRET_ACCESS_KEY.
        /// Example: `{"type": "env_from", "variable": "RDS_KEY"}`
        secret_access_key: Option<Origin>,
        /// The token of temporary credentials; without it that of AWS_SESSION_TOKEN.
        /// Example: `{"type": "env", "variable": "RDS_TOKEN"}`
        session_token: Option<Origin>,
    }
}

record! {
    /// Logging in at Google Cloud SQL.
    pub(super) struct GcpCloudSql {
        /// `"gcp_cloud_sql"`.
        kind as "type": Provider,
        /// The service account's key, as JSON.
        /// Example: `{"type": "env", "variable": "GOOGLE_CREDENTIALS_JSON"}`
        credentials_json: Option<Origin>,
        /// A file with it.
        /// Example: `{"type": "env", "variable": "GOOGLE_APPLICATION_CREDENTIALS"}`
        credentials_path: Option<Origin>,
        /// The project; without it that of GOOGLE_CLOUD_PROJECT or GCP_PROJECT.
        /// Example: `{"type": "env", "variable": "GOOGLE_CLOUD_PROJECT"}`
        project: Option<Origin>,
    }
}

/// The identity of a cloud provider.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum IamAuth {
    AwsRds(Box<AwsRds>),
    GcpCloudSql(Box<GcpCloudSql>),
}

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
            Provider::AwsRds => AwsRds::decode(node, report).map(|it| Self::AwsRds(Box::new(it))),
            Provider::GcpCloudSql => {
                GcpCloudSql::decode(node, report).map(|it| Self::GcpCloudSql(Box::new(it)))
            }
        }
    }

    fn shape() -> Shape {
        Shape::one_of([
            AwsRds::shape().with_word("type", "aws_rds"),
            GcpCloudSql::shape().with_word("type", "gcp_cloud_sql"),
        ])
    }
}

impl Render for IamAuth {
    fn render(&self) -> Json {
        match self {
            Self::AwsRds(auth) => auth.render(),
            Self::GcpCloudSql(auth) => auth.render(),
        }
    }
}
