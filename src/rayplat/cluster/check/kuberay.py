"""cluster/kuberay.yaml against KubeRay's schemas, and as Ray's autoscaler reads it.

Knows how a schema of Kubernetes is made a JSON schema; it does not talk to Kubernetes, so a webhook's
refusal or a missing node label is not found here.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from rayplat.cluster.check.finding import Finding, failed, last_words, passed, silent
from rayplat.cluster.check.readback import compare, read_kuberay
from rayplat.cluster.spec import ClusterSpec, parse_spec
from rayplat.core.errors import UserError

CONFIG_MAP = "ConfigMap"
_CLUSTER_IN = {"RayCluster": (), "RayJob": ("rayClusterSpec",), "RayService": ("rayClusterConfig",)}
_MEND = "run `rayplat cluster render kuberay`; if it stays, the cluster file asks what KubeRay refuses"


def check_kuberay(spec: ClusterSpec, documents: list[dict[str, Any]]) -> list[Finding]:
    """Every resource against its schema, its groups, and the autoscaler's own reading of it."""
    found: list[Finding] = []
    documents = [document for document in documents if document.get("kind") != CONFIG_MAP]
    for document in documents:
        kind = document.get("kind", "?")
        if kind not in _CLUSTER_IN:
            found.append(failed("kuberay", "schema", f"{kind} is none of {', '.join(_CLUSTER_IN)}", _MEND))
            continue
        faults = schema_faults(document)
        found += [failed("kuberay", "schema", f"{kind} {fault}", _MEND) for fault in faults[:5]]
        if not faults:
            found += _cluster(spec, document)
    if not any(finding.state == "failed" for finding in found):
        kinds = ", ".join(document["kind"] for document in documents)
        found.insert(0, passed("kuberay", "schema", f"{kinds} accepted by KubeRay's schemas"))
    return list(dict.fromkeys(found))


def check_config_map(spec: ClusterSpec, documents: list[dict[str, Any]]) -> list[Finding]:
    """The cluster file, as the head's pods read it, says what the one here says."""
    texts = [d.get("data", {}).get("platform.yaml", "") for d in documents if d.get("kind") == CONFIG_MAP]
    if len(texts) != 1:
        return [failed("kuberay", "cluster file", f"{len(texts)} ConfigMaps hold it, not one", _MEND)]
    try:
        same = parse_spec(texts[0]) == spec
    except UserError as error:
        return [failed("kuberay", "cluster file", f"the ConfigMap holds another: {error.what}", _MEND)]
    if not same:
        return [failed("kuberay", "cluster file", "the ConfigMap holds another", _MEND)]
    return [passed("kuberay", "cluster file", "the ConfigMap holds the cluster file")]


def schema_faults(document: dict[str, Any]) -> list[str]:
    """What a resource holds that KubeRay's schema refuses, each with its place.

    Unknown keys are faults too: the API server drops them without a word.
    """
    import jsonschema  # type: ignore[import-untyped]

    validator = jsonschema.Draft202012Validator(_schema(document["kind"]))
    return [
        f"{fault.json_path}: {fault.message[:200]}"
        for fault in sorted(validator.iter_errors(document), key=lambda fault: fault.json_path)
    ]


@cache
def _schema(kind: str) -> dict[str, Any]:
    text = (files("rayplat.cluster.check") / "schemas" / "kuberay.json").read_text(encoding="utf-8")
    known = json.loads(text)
    root = {"$ref": "#/$defs/root"}
    return {
        "$defs": {name: json_schema(one) for name, one in known["$defs"].items()}
        | {"root": json_schema(known[kind])},
        **root,
    }


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of a custom resource as a JSON schema.

    What Kubernetes adds to OpenAPI: `x-kubernetes-int-or-string`, `x-kubernetes-preserve-unknown-fields`,
    `nullable`; and an object that names its keys has no others.
    """
    if "$ref" in schema:
        return dict(schema)
    kept = {k: v for k, v in schema.items() if not k.startswith("x-kubernetes-") and k not in _DROPPED}
    if schema.get("x-kubernetes-int-or-string"):
        kept = {"type": ["integer", "string"]}
        if "pattern" in schema:
            kept["pattern"] = schema["pattern"]
    if "properties" in schema:
        kept["properties"] = {name: json_schema(one) for name, one in schema["properties"].items()}
        embedded = schema.get("x-kubernetes-preserve-unknown-fields")
        if not embedded and "additionalProperties" not in schema:
            kept["additionalProperties"] = False
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            kept[inner] = json_schema(schema[inner])
    if schema.get("nullable") and "type" in kept:
        kept["type"] = [kept["type"], "null"]
    return kept


_DROPPED = ("nullable", "format", "default")
"""Said in another way, or of no matter to validation."""


def _cluster(spec: ClusterSpec, document: dict[str, Any]) -> list[Finding]:
    kind, name = document["kind"], document["metadata"]["name"]
    body = document["spec"]
    for key in _CLUSTER_IN[kind]:
        body = body[key]
    faults = [f for f in compare("kuberay", spec, read_kuberay(body)) if f.state == "failed"]
    as_cluster = {"metadata": document["metadata"], "spec": body}
    with silent() as said:
        try:
            types = _autoscaler(as_cluster)
        except Exception as error:  # Ray raises its own, jsonschema's and plain errors
            return [
                *faults,
                failed("kuberay", "autoscaler", f"{kind} {name}: {last_words(said, error)}", _MEND),
            ]
    empty = [n for n, t in types.items() if not t["resources"].get("CPU") or not t["resources"].get("memory")]
    if empty:
        what = f"{kind} {name}: the autoscaler finds no resources for {', '.join(empty)}"
        return [*faults, failed("kuberay", "autoscaler", what, _MEND)]
    if faults:
        return faults
    return [
        *compare("kuberay", spec, read_kuberay(body)),
        passed("kuberay", "autoscaler", f"{len(types)} node types as Ray's autoscaler reads them"),
    ]


def _autoscaler(cluster: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.kuberay import autoscaling_config

    config = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
    types: dict[str, Any] = config["available_node_types"]
    return types
