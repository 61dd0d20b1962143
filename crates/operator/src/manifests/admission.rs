//! What the API server itself refuses, by policies in CEL: no webhook that can be down.
//!
//! ```text
//!   bough-requester  who makes a Branch or a Session stands in it under his own name;
//!                    who makes, changes or asks for one may run programs in the namespace's pods
//!   bough-limits     no branch of a Source lives longer than the Source says
//! ```
//!
//! Rules over one resource and its past alone are in its definition (`resources`). Nobody is exempt: the operator changes
//! nothing that a policy looks at.

use serde_json::{Value, json};

use crate::ASKED_ANNOTATION;

/// The policy about who asks.
const REQUESTER: &str = "bough-requester";

/// The policy about how long.
const LIMITS: &str = "bough-limits";

/// Whether the request is about what a person wants, unlike one that holds, releases or labels.
fn wants() -> String {
    let asked =
        |object: &str| format!("{object}.metadata.?annotations[?'{ASKED_ANNOTATION}'].orValue('')");
    let (new, old) = (asked("object"), asked("oldObject"));
    format!("oldObject == null || object.spec != oldObject.spec || {new} != {old}")
}

/// The policies, each with its binding.
pub(super) fn policies() -> Vec<Value> {
    let requester = json!({
        "failurePolicy": "Fail",
        "matchConstraints": matching(json!(["branches", "sessions"])),
        "variables": [
            {"name": "wants", "expression": wants()},
            {
                // A session sees its target's environment, as `kubectl exec` does.
                "name": "mayUse",
                "expression": "authorizer.group('').resource('pods').subresource('exec')\
                               .namespace(request.namespace).check('create').allowed()",
            },
        ],
        "validations": [
            {
                "expression": "oldObject != null || object.spec.?requester.orValue('') == request.userInfo.username",
                "messageExpression": "'spec.requester has to be who asks, which is ' + request.userInfo.username",
                "message": "spec.requester has to be who asks",
                "reason": "Forbidden",
            },
            {
                "expression": "!variables.wants || variables.mayUse",
                "messageExpression": "request.userInfo.username + ' may not use the targets of namespace ' + request.namespace \
                                      + ': that takes the right to create pods/exec there'",
                "message": "using targets takes the right to create pods/exec",
                "reason": "Forbidden",
            },
        ],
    });
    let limits = json!({
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "bough.dev/v1alpha1", "kind": "Source"},
        "matchConstraints": matching(json!(["branches"])),
        "validations": [{
            "expression": "!params.spec.?addresses.orValue([]).exists(it, \
                           object.spec.source.startsWith(it.host + ':' + string(it.port) + '/')) \
                           || object.spec.ttlSeconds <= params.spec.ttlSecondsMax",
            "messageExpression": "'branches of the source ' + params.metadata.name + ' live for at most ' \
                                  + string(params.spec.ttlSecondsMax) + ' s'",
            "message": "the source does not let its branches live for so long",
            "reason": "Invalid",
        }],
    });
    // The sources of the branch's own namespace; without any, anything goes.
    let sources = json!({"selector": {}, "parameterNotFoundAction": "Allow"});
    vec![
        policy(REQUESTER, &requester),
        binding(REQUESTER, None),
        policy(LIMITS, &limits),
        binding(LIMITS, Some(sources)),
    ]
}

fn matching(resources: Value) -> Value {
    json!({
        "resourceRules": [{
            "apiGroups": ["bough.dev"],
            "apiVersions": ["v1alpha1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": resources,
        }],
    })
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": spec,
    })
}

fn binding(name: &str, params: Option<Value>) -> Value {
    let mut spec = json!({"policyName": name, "validationActions": ["Deny"]});
    if let Some(params) = params {
        spec["paramRef"] = params;
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": spec,
    })
}
