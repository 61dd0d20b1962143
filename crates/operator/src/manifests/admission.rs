//! What the API server itself refuses, by policies in CEL: no webhook that can be down.
//!
//! ```text
//!   bough-requester  who makes a Branch or a Session stands in it under his own name;
//!                    who makes, changes or asks for one may run programs in the namespace's pods, or use that target;
//!                    who began a session alone asks more for it
//!   bough-limits     no branch of a Source lives longer than the Source says; where it is for those who are granted it,
//!                    who makes, changes or asks for one may use it
//!   bough-bounds     no branch lives longer, or has another version, than the administrator allows everybody
//!   bough-agents     no agent runs from another image than he allows,
//!   bough-own-pods   nor does the pod of a session without target
//! ```
//!
//! Rules over one resource and its past alone are in its definition (`resources`). Nobody is exempt: the operator changes
//! nothing that a policy looks at.

use serde_json::{Value, json};

use crate::ASKED_ANNOTATION;
use crate::limits::{AGENT_IMAGES, LIMITS_NAME, TTL_SECONDS_MAX, VERSIONS};
use crate::session::STOPPED_ANNOTATION;

/// The policy about who asks.
const REQUESTER: &str = "bough-requester";

/// The policy about how long.
const LIMITS: &str = "bough-limits";

/// The policy about what everybody is allowed of branches.
const BOUNDS: &str = "bough-bounds";

/// The policy about images of agents.
const AGENTS: &str = "bough-agents";

/// The policy about images of pods that are a session's own.
const OWN_PODS: &str = "bough-own-pods";

/// By which pods of sessions without target are known.
pub const OWN_POD_LABEL: &str = "bough.dev/own-pod";

/// What the right to use a target is about, in roles: no such resource exists.
const TARGETS: &str = "targets";

/// How the names of agents' containers begin.
const AGENT_PREFIX: &str = "bough-agent-";

/// Whether the request is about what a person wants, unlike one that holds, releases or labels.
fn wants() -> String {
    let asked =
        |object: &str| format!("{object}.metadata.?annotations[?'{ASKED_ANNOTATION}'].orValue('')");
    let (new, old) = (asked("object"), asked("oldObject"));
    format!("oldObject == null || object.spec != oldObject.spec || {new} != {old}")
}

/// Whether who stopped a session is said by himself, and taken back by nobody else.
fn stops_in_his_name() -> String {
    let said = |object: &str| {
        format!("{object}.metadata.?annotations[?'{STOPPED_ANNOTATION}'].orValue('')")
    };
    let (new, old) = (said("object"), said("oldObject"));
    format!(
        "request.resource.resource != 'sessions' || {new} == (oldObject == null ? '' : {old}) \
         || {new} == request.userInfo.username"
    )
}

/// A branch that is there may go on as it is, and go, whatever limit came after it.
const IS_NO_LONGER: &str =
    "(oldObject != null && object.spec.ttlSeconds <= oldObject.spec.ttlSeconds)";

/// The policies, each with its binding; the limits of everybody stand in the namespace `own` of the operator.
pub(super) fn policies(own: &str) -> Vec<Value> {
    // The sources of the branch's own namespace; without any, anything goes.
    let sources = json!({"selector": {}, "parameterNotFoundAction": "Allow"});
    // Without the ConfigMap of the administrator's limits, anything goes.
    let of_everybody =
        json!({"name": LIMITS_NAME, "namespace": own, "parameterNotFoundAction": "Allow"});
    vec![
        policy(REQUESTER, &requester()),
        binding(REQUESTER, None),
        policy(LIMITS, &limits()),
        binding(LIMITS, Some(&sources)),
        policy(BOUNDS, &bounds()),
        binding(BOUNDS, Some(&of_everybody)),
        policy(AGENTS, &agents()),
        binding(AGENTS, Some(&of_everybody)),
        policy(OWN_PODS, &own_pods()),
        binding(OWN_PODS, Some(&of_everybody)),
    ]
}

fn requester() -> Value {
    json!({
        "failurePolicy": "Fail",
        "matchConstraints": matching(json!(["branches", "sessions"])),
        "variables": [
            {"name": "wants", "expression": wants()},
            {
                // As roles name it, where they name some alone: `deployment.inventory`.
                "name": "target",
                "expression": "has(object.spec.target) ? object.spec.target.kind.lowerAscii() + '.' + object.spec.target.name : ''",
            },
            {
                // A session sees its target's environment, as `kubectl exec` does.
                "name": "mayUse",
                "expression": format!(
                    "authorizer.group('').resource('pods').subresource('exec')\
                     .namespace(request.namespace).check('create').allowed() \
                     || authorizer.group('bough.dev').resource('{TARGETS}')\
                     .namespace(request.namespace).name(variables.target).check('use').allowed()"
                ),
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
                "messageExpression": format!(
                    "request.userInfo.username + ' may not use the targets of namespace ' + request.namespace \
                     + ': that takes the right to create pods/exec there, or to use {TARGETS}.bough.dev'"
                ),
                "message": "using targets takes the right to create pods/exec",
                "reason": "Forbidden",
            },
            {
                // What is asked for is sealed to whoever asks: he stands in it.
                "expression": "request.resource.resource != 'sessions' || oldObject == null || object.spec == oldObject.spec \
                               || object.spec.?requester.orValue('') == request.userInfo.username",
                "messageExpression": "'this session is not that of ' + request.userInfo.username + ': who began it alone asks for more'",
                "message": "who began a session alone asks for more",
                "reason": "Forbidden",
            },
            {
                // Whose session it is reads there who ended it.
                "expression": stops_in_his_name(),
                "messageExpression": format!(
                    "'{STOPPED_ANNOTATION} has to be who stops the session, which is ' + request.userInfo.username"
                ),
                "message": "who stops a session says so under his own name",
                "reason": "Forbidden",
            },
        ],
    })
}

fn limits() -> Value {
    json!({
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "bough.dev/v1alpha1", "kind": "Source"},
        "matchConstraints": matching(json!(["branches"])),
        "variables": [
            {"name": "wants", "expression": wants()},
            {
                "name": "isOfSource",
                "expression": "params.spec.?addresses.orValue([]).exists(it, \
                               object.spec.source.lowerAscii().startsWith(it.host.lowerAscii() + ':' + string(it.port) + '/'))",
            },
            {
                "name": "mayUse",
                "expression": "params.spec.?access.orValue('open') != 'granted' \
                               || authorizer.group('bough.dev').resource('sources')\
                               .namespace(request.namespace).name(params.metadata.name).check('use').allowed()",
            },
        ],
        "validations": [
            {
                "expression": format!(
                    "!variables.isOfSource || object.spec.ttlSeconds <= params.spec.ttlSecondsMax || {IS_NO_LONGER}"
                ),
                "messageExpression": "'branches of the source ' + params.metadata.name + ' live for at most ' \
                                      + string(params.spec.ttlSecondsMax) + ' s'",
                "message": "the source does not let its branches live for so long",
                "reason": "Invalid",
            },
            {
                "expression": "!variables.isOfSource || !variables.wants || variables.mayUse",
                "messageExpression": "request.userInfo.username + ' may not have branches of the source ' + params.metadata.name \
                                      + ': that takes the right to use sources.bough.dev/' + params.metadata.name",
                "message": "branches of the source take the right to use it",
                "reason": "Forbidden",
            },
        ],
    })
}

/// A key of that ConfigMap; nothing where it has none.
fn limit(key: &str) -> String {
    format!("params.?data[?'{key}'].orValue('').trim()")
}

fn bounds() -> Value {
    json!({
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": matching(json!(["branches"])),
        "variables": [
            {"name": "ttl", "expression": limit(TTL_SECONDS_MAX)},
            {"name": "versions", "expression": limit(VERSIONS)},
        ],
        "validations": [
            {
                "expression": format!(
                    "variables.ttl == '' || object.spec.ttlSeconds <= int(variables.ttl) || {IS_NO_LONGER}"
                ),
                "messageExpression": format!(
                    "'branches of this cluster live for at most ' + variables.ttl + ' s (configmap {LIMITS_NAME})'"
                ),
                "message": "branches of this cluster do not live for so long",
                "reason": "Invalid",
            },
            {
                // What is there already may go on.
                "expression": "oldObject != null || variables.versions == '' \
                               || variables.versions.split(',').exists(it, it.trim() == string(object.spec.version))",
                "messageExpression": format!(
                    "'branches of this cluster have the versions ' + variables.versions + ' alone (configmap {LIMITS_NAME})'"
                ),
                "message": "branches of this cluster have other versions",
                "reason": "Invalid",
            },
        ],
    })
}

fn agents() -> Value {
    json!({
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {
            "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["UPDATE"], "resources": ["pods/ephemeralcontainers"],
            }],
        },
        "variables": [
            {"name": "images", "expression": limit(AGENT_IMAGES)},
            {
                "name": "old",
                "expression": "oldObject.spec.?ephemeralContainers.orValue([]).map(it, it.name)",
            },
        ],
        "validations": [{
            // Anybody else's containers are none of our business.
            "expression": format!(
                "variables.images == '' || object.spec.?ephemeralContainers.orValue([]).all(it, \
                 !it.name.startsWith('{AGENT_PREFIX}') || it.name in variables.old \
                 || variables.images.split(',').exists(image, image.trim() == it.image))"
            ),
            "messageExpression": from_allowed_images(),
            "message": "agents of this cluster run from other images",
            "reason": "Forbidden",
        }],
    })
}

fn from_allowed_images() -> String {
    format!(
        "'agents of this cluster run from ' + variables.images + ' alone (configmap {LIMITS_NAME})'"
    )
}

fn own_pods() -> Value {
    let images = |object: &str| {
        format!(
            "({object}.spec.containers.map(it, it.?image.orValue('')) \
             + {object}.spec.?initContainers.orValue([]).map(it, it.?image.orValue('')))"
        )
    };
    let (new, old) = (images("object"), images("oldObject"));
    json!({
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {
            // No other pod waits for this policy.
            "objectSelector": {"matchExpressions": [{"key": OWN_POD_LABEL, "operator": "Exists"}]},
            "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["pods"],
            }],
        },
        "variables": [
            {"name": "images", "expression": limit(AGENT_IMAGES)},
            // What is there already may go on.
            {"name": "old", "expression": format!("oldObject == null ? [] : {old}")},
        ],
        "validations": [{
            "expression": format!(
                "variables.images == '' || {new}.all(it, it in variables.old \
                 || variables.images.split(',').exists(image, image.trim() == it))"
            ),
            "messageExpression": from_allowed_images(),
            "message": "agents of this cluster run from other images",
            "reason": "Forbidden",
        }],
    })
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

fn binding(name: &str, params: Option<&Value>) -> Value {
    let mut spec = json!({"policyName": name, "validationActions": ["Deny"]});
    if let Some(params) = params {
        spec["paramRef"] = params.clone();
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": spec,
    })
}
