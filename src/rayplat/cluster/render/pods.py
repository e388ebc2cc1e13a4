"""The pods of a Ray cluster on Kubernetes: their resources, their place and what they may do.

Knows pod templates; it does not know KubeRay's own resources.
"""

from typing import Any

from rayplat.cluster.render.commands import GCS_PORT
from rayplat.cluster.spec import ClusterSpec, NodeGroup, NodeType
from rayplat.cluster.spec.sections import KubernetesSection

ZONE_LABEL = "topology.kubernetes.io/zone"
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Of every container; 1000 is the user `ray` of Ray's images."""
BESIDE = {
    "rayplat-recorder": ("python", "-m", "rayplat.cluster.recorder"),
    "rayplat-costs": ("rayplat", "cost", "watch"),
}
"""What runs beside Ray on the head. The operator lets pods of its autoscaler never restart; a container among
the first ones that says `Always` is restarted all the same."""
SPEC_MAP = "platform"
SPEC_FILE = "platform.yaml"
_SPEC_FOLDER = "/etc/rayplat"
_SPEC_VARIABLE = {"name": "RAYPLAT_RAY__SPEC", "value": f"{_SPEC_FOLDER}/{SPEC_FILE}"}
_SPEC_MOUNT = {"name": SPEC_MAP, "mountPath": _SPEC_FOLDER, "readOnly": True}
_SMALL = {"cpu": "100m", "memory": "512Mi"}


def pod_template(spec: ClusterSpec, kubernetes: KubernetesSection, kind: NodeType) -> dict[str, Any]:
    """The template of a node type's pods; requests are the limits, so that no pod is evicted for another."""
    group = spec.groups[kind.group]
    head = group.kind == "head"
    body: dict[str, Any] = {
        # The autoscaler beside the head asks Kubernetes for pods; a worker has nothing to ask.
        "serviceAccountName": kubernetes.service_account,
        "automountServiceAccountToken": head,
        "containers": [_container(spec, kubernetes, group, head)],
    }
    if head:
        body["initContainers"] = [_beside(spec, kubernetes, *one) for one in BESIDE.items()]
        body["volumes"] = [{"name": SPEC_MAP, "configMap": {"name": spec_map(spec)}}]
    selector = {
        **(kubernetes.accelerators.get(group.accelerator or "", {}) if group.gpus else {}),
        **group.kubernetes.node_selector,
    }
    if selector:
        body["nodeSelector"] = selector
    affinity = _affinity(kubernetes, group, kind)
    if affinity:
        body["affinity"] = {"nodeAffinity": affinity}
    tolerations = [t.model_dump(exclude_none=True) for t in group.kubernetes.tolerations]
    if group.gpus:
        tolerations.append({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})
    if tolerations:
        body["tolerations"] = tolerations
    if kubernetes.image_pull_secrets:
        body["imagePullSecrets"] = [{"name": name} for name in kubernetes.image_pull_secrets]
    labels = {"rayplat-cluster": spec.name, "rayplat-group": kind.group}
    return {"metadata": {"labels": labels}, "spec": body}


def _container(
    spec: ClusterSpec, kubernetes: KubernetesSection, group: NodeGroup, head: bool
) -> dict[str, Any]:
    amounts: dict[str, str] = {
        "cpu": str(group.cpus),
        "memory": f"{round(group.memory_gib * 1024)}Mi",
        "ephemeral-storage": f"{group.disk_gib}Gi",
    }
    if group.gpus:
        amounts["nvidia.com/gpu"] = str(group.gpus)
    variables = {"RAY_USAGE_STATS_ENABLED": "0", **spec.platform.environment}
    container: dict[str, Any] = {
        "name": "ray-head" if head else "ray-worker",
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": {"requests": dict(amounts), "limits": amounts},
        "securityContext": CONTAINER_SECURITY,
    }
    if head:
        container["env"].append(_SPEC_VARIABLE)
        container["volumeMounts"] = [_SPEC_MOUNT]
    if kubernetes.secrets:
        container["envFrom"] = [{"secretRef": {"name": kubernetes.secrets}}]
    return container


def _beside(
    spec: ClusterSpec, kubernetes: KubernetesSection, name: str, command: tuple[str, ...]
) -> dict[str, Any]:
    """A container that runs beside the head for as long as it does, and is started again when it ends."""
    variables = [{"name": key, "value": value} for key, value in spec.platform.environment.items()]
    token = {"secretKeyRef": {"name": kubernetes.token_secret, "key": "auth_token"}}
    label = {"fieldRef": {"fieldPath": "metadata.labels['ray.io/cluster']"}}
    container: dict[str, Any] = {
        "name": name,
        "image": spec.image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "restartPolicy": "Always",
        "env": [
            *variables,
            {"name": "RAY_AUTH_MODE", "value": "token"},
            {"name": "RAY_AUTH_TOKEN", "valueFrom": token},
            {"name": "RAY_CLUSTER_NAME", "valueFrom": label},
            # The home tells this cluster's nodes from those of others in the same database.
            {"name": "RAYPLAT_HOME", "value": "/home/ray/.rayplat/$(RAY_CLUSTER_NAME)"},
            {"name": "RAYPLAT_RAY__ADDRESS", "value": f"127.0.0.1:{GCS_PORT}"},
            _SPEC_VARIABLE,
        ],
        "resources": {"requests": dict(_SMALL), "limits": dict(_SMALL)},
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [_SPEC_MOUNT],
    }
    if kubernetes.secrets:
        container["envFrom"] = [{"secretRef": {"name": kubernetes.secrets}}]
    return container


def spec_map(spec: ClusterSpec) -> str:
    """The name of the ConfigMap that holds the cluster file."""
    return f"{spec.name}-{SPEC_MAP}"


def _affinity(kubernetes: KubernetesSection, group: NodeGroup, kind: NodeType) -> dict[str, Any]:
    """Where pods may go: zones always hold; spot is required, preferred, or shunned."""
    zones = [kubernetes.zones[letter] for letter in group.zones]
    zone = [{"key": ZONE_LABEL, "operator": "In", "values": zones}] if zones else []
    spot = [{"key": k, "operator": "In", "values": [v]} for k, v in kubernetes.spot_selector.items()]
    terms = [zone] if zone else []
    found: dict[str, Any] = {}
    if kind.market == "on-demand" and spot:
        # A node is no spot node if it lacks any of the labels: one alternative for each.
        terms = [[*zone, {**label, "operator": "NotIn"}] for label in spot]
    elif kind.market == "spot" and group.spot.fallback == "none":
        terms = [[*zone, *spot]]
    elif kind.market == "spot":
        preferred = [{"weight": 100, "preference": {"matchExpressions": spot}}]
        found["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    if terms:
        alternatives = [{"matchExpressions": term} for term in terms]
        found["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": alternatives}
    return found
