//! `feature.split_queues`: message queues whose messages are shared between target and process. Read and checked; not
//! supported yet.

use std::collections::BTreeMap;

use crate::decode::{Report, record};
use crate::pattern;
use crate::tree::Node;

/// The types of queue that the format has.
const QUEUE_TYPES: [&str; 3] = ["SQS", "Kafka", "RMQ"];

record! {
    /// Which messages of a queue the process gets.
    pub(crate) struct Queue {
        /// The type: `"SQS"`, `"Kafka"` or `"RMQ"`.
        /// Example: `"SQS"`
        queue_type: String,
        /// Attributes or headers, and the regular expressions that all of them must match.
        /// Example: `{"session": "^ada$"}`
        message_filter: Option<BTreeMap<String, String>>,
        /// A jq program over the whole message.
        /// Example: `".Body | fromjson | .customer == 42"`
        jq_filter: Option<String>,
    }
}

/// Types, and the filters that they need. `queues` is the object of all.
pub(super) fn check(queues: &Node<'_>, report: &mut Report) {
    for member in queues.members() {
        let queue = Node {
            path: queues.path_to(&member.key),
            tree: &member.value,
        };
        let Some(kind) = queue.get("queue_type") else {
            continue;
        };
        match kind.text() {
            Some("SQS") | None => {}
            Some(word) if QUEUE_TYPES.contains(&word) => {
                if queue.get("message_filter").is_none() {
                    report
                        .problem(&queue, "the key \"message_filter\" is missing")
                        .hint("write {} to get every message");
                }
            }
            Some(word) => {
                report.problem(&kind, format!("{word:?} is no type of queue"));
            }
        }
        for filter in queue.get("message_filter").iter().flat_map(Node::members) {
            if let crate::tree::Value::Text(text) = &filter.value.value
                && let Err(error) = pattern::compile(text)
            {
                let path = format!("{}.message_filter", queue.path);
                pattern::report_broken(&path, filter.value.span.clone(), &error, report);
            }
        }
    }
}
