"""What GCP must allow: custom roles of the head and of the workers, and the firewall.

Knows IAM's permissions and which calls the launcher makes; it grants nothing.
"""

from typing import Any
from urllib.parse import urlsplit

from rayplat.cluster.render.commands import DASHBOARD_PORT
from rayplat.cluster.render.policies.document import PolicyDocument
from rayplat.cluster.spec import ClusterSpec
from rayplat.cluster.spec.sections import GcpSection

_TUNNEL_FROM = "35.235.240.0/20"
"""Where Google's Identity-Aware Proxy comes from."""

_GIVES_ACCOUNT = "roles/iam.serviceAccountUser"
_HEAD = (
    "compute.disks.create",
    "compute.images.useReadOnly",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
    "compute.subnetworks.use",
    "compute.zoneOperations.get",
)
_PUBLIC = ("compute.subnetworks.useExternalIp",)
_DATA = (
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
)


def gcp_policies(spec: ClusterSpec) -> list[PolicyDocument]:
    """The documents of a GCP cluster; the spec must have its gcp part."""
    assert spec.gcp is not None
    gcp = spec.gcp
    bucket = urlsplit(spec.platform.warehouse or "")
    documents = [
        _head(gcp),
        *([_data(gcp, bucket.netloc)] if bucket.scheme == "gs" else []),
        _firewall(gcp, "internal", {"sourceTags": [gcp.network_tag], "allowed": [{"IPProtocol": "all"}]}),
        _from_outside(gcp, "ssh", 22, spec.network.ssh_from or [_TUNNEL_FROM]),
    ]
    if spec.network.dashboard_from:
        documents.append(_from_outside(gcp, "dashboard", DASHBOARD_PORT, spec.network.dashboard_from))
    return documents


def _mail(account: str, gcp: GcpSection) -> str:
    return f"{account}@{gcp.project}.iam.gserviceaccount.com"


def _role(title: str, permissions: list[str]) -> dict[str, Any]:
    return {"title": title, "stage": "GA", "includedPermissions": permissions}


def _head(gcp: GcpSection) -> PolicyDocument:
    name = gcp.head_account.replace("-", "_")
    permissions = sorted([*_HEAD, *(_PUBLIC if gcp.public_ips else ())])
    to, worker = f"--member=serviceAccount:{_mail(gcp.head_account, gcp)}", _mail(gcp.worker_account, gcp)
    role = f"projects/{gcp.project}/roles/{name}"
    return PolicyDocument(
        gcp.head_account,
        "The head starts and ends nodes, and gives them the workers' account alone.",
        _role("rayplat head", permissions),
        (
            f"gcloud iam service-accounts create {gcp.head_account} --project={gcp.project}",
            f"gcloud iam service-accounts create {gcp.worker_account} --project={gcp.project}",
            f"gcloud iam roles create {name} --project={gcp.project} --file=FILE",
            f"gcloud projects add-iam-policy-binding {gcp.project} {to} --role={role}",
            f"gcloud iam service-accounts add-iam-policy-binding {worker} {to} --role={_GIVES_ACCOUNT}",
        ),
    )


def _data(gcp: GcpSection, bucket: str) -> PolicyDocument:
    grants = tuple(
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket} "
        f"--member=serviceAccount:{_mail(account, gcp)} --role=projects/{gcp.project}/roles/rayplat_warehouse"
        for account in (gcp.head_account, gcp.worker_account)
    )
    return PolicyDocument(
        "warehouse",
        f"Head and workers read and write the bucket {bucket}.",
        _role("rayplat warehouse", list(_DATA)),
        (f"gcloud iam roles create rayplat_warehouse --project={gcp.project} --file=FILE", *grants),
    )


def _from_outside(gcp: GcpSection, name: str, port: int, networks: list[str]) -> PolicyDocument:
    allowed = [{"IPProtocol": "tcp", "ports": [str(port)]}]
    return _firewall(gcp, name, {"sourceRanges": networks, "allowed": allowed})


def _firewall(gcp: GcpSection, name: str, rule: dict[str, Any]) -> PolicyDocument:
    full = f"{gcp.network_tag}-{name}"
    body = {"name": full, "direction": "INGRESS", "targetTags": [gcp.network_tag], **rule}
    source = (
        f"--source-tags={gcp.network_tag}"
        if "sourceTags" in rule
        else f"--source-ranges={','.join(rule['sourceRanges'])}"
    )
    (allowed,) = rule["allowed"]
    what = ",".join(f"{allowed['IPProtocol']}:{port}" for port in allowed.get("ports", [])) or "all"
    command = (
        f"gcloud compute firewall-rules create {full} --project={gcp.project} --direction=INGRESS "
        f"--target-tags={gcp.network_tag} {source} --allow={what}"
    )
    return PolicyDocument(
        f"firewall {name}", "Who may reach the nodes; the rest is denied.", body, (command,)
    )
