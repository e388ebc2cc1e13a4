"""cluster/kuberay.yaml: a RayCluster, templates of a RayJob and a RayService, and the cluster file for them.

Knows KubeRay's resources; it does not know what a pod may do, nor does it talk to Kubernetes.
"""

import json
from typing import Any

from rayplat.cluster.render.commands import DASHBOARD_PORT
from rayplat.cluster.render.launcher import without_skipped
from rayplat.cluster.render.pods import CONTAINER_SECURITY, SPEC_FILE, pod_template, spec_map
from rayplat.cluster.render.services import redis_address
from rayplat.cluster.render.text import rendered
from rayplat.cluster.spec import ClusterSpec, NodeType, node_types
from rayplat.cluster.spec.sections import KubernetesSection

_NOTES = (
    "The RayCluster is the platform. The RayJob and the RayService are templates: each starts a cluster of",
    "the same shape for one job or one application; put your own entrypoint or import_path in, and apply",
    "what you want of the three. `rayplat cluster policy kubernetes` prints what must be there before.",
    "Beside each head run the recorder and the steward of the costs, which read the ConfigMap: the image",
    "must hold rayplat.",
)
_ENTRYPOINT = "python jobs/train.py --project examples/flights"
_SERVE = """\
applications:
- name: application
  route_prefix: /
  import_path: application:app
"""
_AUTOSCALER = {"cpu": "500m", "memory": "512Mi"}


def render_kuberay(spec: ClusterSpec) -> str:
    """The text of cluster/kuberay.yaml; the spec must have its kubernetes part."""
    return rendered("kuberay", kuberay_documents(spec), _NOTES)


def kuberay_documents(spec: ClusterSpec) -> list[dict[str, Any]]:
    """The resources as values: KubeRay's three, and the cluster file as a ConfigMap."""
    whole = spec
    assert spec.kubernetes is not None
    spec = without_skipped(spec, "kubernetes")
    assert spec.kubernetes is not None
    kubernetes = spec.kubernetes
    cluster = _cluster(spec, kubernetes)
    lasting = {**cluster, "gcsFaultToleranceOptions": _fault_tolerance(spec)}
    job = {
        "entrypoint": _ENTRYPOINT,
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": cluster,
    }
    service = {
        "upgradeStrategy": {"type": "NewCluster"},
        "serveConfigV2": _SERVE,
        "rayClusterConfig": lasting,
    }
    return [
        _resource("RayCluster", spec.name, kubernetes, lasting),
        _resource("RayJob", f"{spec.name}-job", kubernetes, job),
        _resource("RayService", f"{spec.name}-serve", kubernetes, service),
        _config_map(whole, kubernetes),
    ]


def _config_map(spec: ClusterSpec, kubernetes: KubernetesSection) -> dict[str, Any]:
    """The cluster file, for whoever reads prices, budgets, teams and groups on the head."""
    # Only what differs from the defaults: those are the same wherever the file is read.
    text = json.dumps(spec.model_dump(mode="json", exclude_defaults=True, by_alias=True), indent=1)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": spec_map(spec), "namespace": kubernetes.namespace},
        "data": {SPEC_FILE: text + "\n"},
    }


def _resource(kind: str, name: str, kubernetes: KubernetesSection, body: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": kubernetes.namespace}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": body}


def _cluster(spec: ClusterSpec, kubernetes: KubernetesSection) -> dict[str, Any]:
    head, *workers = node_types(spec, stand_in=False)
    return {
        "rayVersion": spec.ray.version,
        "authOptions": {"mode": "token", "secretName": kubernetes.token_secret},
        "networkPolicy": _network(spec),
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            # Ray knows two speeds here: no more than run already at a time, or all at once.
            "upscalingMode": "Conservative" if spec.upscaling_speed <= 1 else "Default",
            "idleTimeoutSeconds": round(spec.idle_timeout_s),
            "imagePullPolicy": "IfNotPresent",
            "securityContext": CONTAINER_SECURITY,
            "resources": {"requests": _AUTOSCALER, "limits": _AUTOSCALER},
        },
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            # Within the pod network; who may come there is the network policy's matter.
            "rayStartParams": {"dashboard-host": "0.0.0.0"},  # noqa: S104
            "resources": _resources(head),
            "labels": dict(sorted(head.labels.items())),
            "template": pod_template(spec, kubernetes, head),
        },
        "workerGroupSpecs": [_worker(spec, kubernetes, kind) for kind in workers],
    }


def _worker(spec: ClusterSpec, kubernetes: KubernetesSection, kind: NodeType) -> dict[str, Any]:
    return {
        "groupName": kind.name,
        "replicas": kind.min,
        "minReplicas": kind.min,
        "maxReplicas": kind.max,
        "priority": kind.priority,
        "idleTimeoutSeconds": max(1, round(kind.idle_timeout_s)),
        "rayStartParams": {},
        "resources": _resources(kind),
        "labels": dict(sorted(kind.labels.items())),
        "template": pod_template(spec, kubernetes, kind),
    }


def _resources(kind: NodeType) -> dict[str, str]:
    return {name: str(int(amount)) for name, amount in kind.resources.items()}


def _network(spec: ClusterSpec) -> dict[str, Any]:
    """Nobody comes in but the cluster's own pods, the operator, and the networks that are named."""
    operator = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    rules: list[dict[str, Any]] = [{"from": [operator]}]
    if spec.network.dashboard_from:
        blocks = [{"ipBlock": {"cidr": cidr}} for cidr in spec.network.dashboard_from]
        rules.append({"from": blocks, "ports": [{"protocol": "TCP", "port": DASHBOARD_PORT}]})
    return {"mode": "DenyAllIngress", "head": {"ingressRules": rules}}


def _fault_tolerance(spec: ClusterSpec) -> dict[str, Any]:
    """Where the head's state outlives the head: Redis where there is one, else a volume."""
    if spec.platform.head_store == "rocksdb" or not spec.platform.redis:
        return {"backend": "rocksdb", "storage": {"size": "10Gi"}}
    address = redis_address(spec.platform.redis)
    return {"backend": "redis", "redisAddress": address, "externalStorageNamespace": spec.name}
