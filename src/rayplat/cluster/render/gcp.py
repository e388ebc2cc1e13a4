"""cluster/gcp.yaml: the launcher file for GCP.

Knows Compute Engine's words for a node and what makes one safe; it does not talk to GCP.
"""

from typing import Any

from rayplat.cluster.render.commands import launcher_parts
from rayplat.cluster.render.launcher import available_node_types, limits, notes, without_skipped
from rayplat.cluster.render.text import rendered
from rayplat.cluster.spec import ClusterSpec, NodeType
from rayplat.cluster.spec.catalogue import Machine, choose
from rayplat.cluster.spec.sections import GcpSection

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ATTACHED = {"T4": "nvidia-tesla-t4", "V100": "nvidia-tesla-v100"}
"""GPUs that are attached to a machine type; the others are part of theirs."""


def render_gcp(spec: ClusterSpec) -> str:
    """The text of cluster/gcp.yaml; the spec must have its gcp part."""
    spec = without_skipped(spec, "gcp")
    return rendered("gcp", [gcp_document(spec)], notes(spec))


def gcp_document(spec: ClusterSpec) -> dict[str, Any]:
    """The launcher file as a value."""
    assert spec.gcp is not None
    gcp = spec.gcp
    zone = f"{gcp.region}-{gcp.zone}"
    # A tunnel by the node's name: the firewall admits Google's own proxy alone, which asks who calls.
    tunnel = (
        f"gcloud compute start-iap-tunnel %h %p --listen-on-stdin --project={gcp.project} --zone={zone}"
        if not spec.network.ssh_from
        else ""
    )
    return {
        **limits(spec),
        "provider": {
            "type": "gcp",
            "region": gcp.region,
            "availability_zone": zone,
            "project_id": gcp.project,
            "cache_stopped_nodes": False,
            "use_internal_ips": not gcp.public_ips,
        },
        "auth": {
            "ssh_user": gcp.ssh_user,
            **({"ssh_proxy_command": tunnel, "ssh_proxy_use_node_id": True} if tunnel else {}),
        },
        "available_node_types": available_node_types(spec, lambda kind: _node_config(spec, gcp, kind)),
        "head_node_type": spec.head[0],
        **launcher_parts(spec, "google-api-python-client"),
    }


def _node_config(spec: ClusterSpec, gcp: GcpSection, kind: NodeType) -> dict[str, Any]:
    group = spec.groups[kind.group]
    machine = choose(group, "gcp")
    account = gcp.head_account if group.kind == "head" else gcp.worker_account
    config: dict[str, Any] = {
        "machineType": machine.type,
        "disks": [_disk(gcp, group.disk_gib)],
        "networkInterfaces": [_interface(gcp)],
        "serviceAccounts": [
            {"email": f"{account}@{gcp.project}.iam.gserviceaccount.com", "scopes": [_SCOPE]}
        ],
        "tags": {"items": [gcp.network_tag]},
        "labels": {"rayplat-cluster": spec.name, "rayplat-group": kind.group},
        "shieldedInstanceConfig": {"enableVtpm": True, "enableIntegrityMonitoring": True},
    }
    if machine.accelerator in _ATTACHED:
        config["guestAccelerators"] = [
            {"acceleratorType": _ATTACHED[machine.accelerator], "acceleratorCount": machine.gpus}
        ]
    scheduling = _scheduling(kind, machine)
    return {**config, "scheduling": scheduling} if scheduling else config


def _scheduling(kind: NodeType, machine: Machine) -> dict[str, Any]:
    if kind.market == "spot":
        return {
            "provisioningModel": "SPOT",
            "instanceTerminationAction": "DELETE",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
        }
    # A machine with GPUs cannot be moved while it runs.
    return {"onHostMaintenance": "TERMINATE", "automaticRestart": True} if machine.gpus else {}


def _disk(gcp: GcpSection, size_gib: int) -> dict[str, Any]:
    disk: dict[str, Any] = {
        "boot": True,
        "autoDelete": True,
        "type": "PERSISTENT",
        "initializeParams": {
            "diskSizeGb": str(size_gib),
            "diskType": f"zones/{gcp.region}-{gcp.zone}/diskTypes/pd-balanced",
            "sourceImage": gcp.image,
        },
    }
    # Without a key of one's own, Google encrypts with its own; there is no disk that is not encrypted.
    return {**disk, "diskEncryptionKey": {"kmsKeyName": gcp.kms_key}} if gcp.kms_key else disk


def _interface(gcp: GcpSection) -> dict[str, Any]:
    where = f"projects/{gcp.project}/regions/{gcp.region}/subnetworks/{gcp.subnetwork}"
    public = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
    return {"subnetwork": where, **({"accessConfigs": public} if gcp.public_ips else {})}
