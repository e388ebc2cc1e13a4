"""The parts of the cluster file beside its groups: Ray's pin, the targets, settings, network, this machine.

Knows the keys of each part and what they mean; it does not know how a target uses them.
"""

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from rayplat.cluster.spec.part import Part, refuse

_WHEEL = re.compile(r"^(https://|s3://|gs://|/)\S+\.whl#sha256=[0-9a-f]{64}$")
_MOVING = re.compile(r"nightly|latest|\.dev\d|master", re.IGNORECASE)


def _closed(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise refuse(f"{text!r} is no network", "write a CIDR such as 10.0.0.0/8 or 203.0.113.7/32") from None
    if network.prefixlen == 0:
        raise refuse(f"{text} is the whole world", "name the networks that people come from")
    return text


def _pinned_image(text: str) -> str:
    tag = text.rpartition("/")[2].partition("@")
    named = tag[2].startswith("sha256:") or ":" in tag[0]
    if not named or _MOVING.search(text):
        raise refuse(f"image {text!r} names no fixed version", "name a version's tag, or @sha256:…")
    return text


def _named_image(text: str) -> str:
    if not re.match(r"^projects/\S+/global/images/[^/\s]+$", text):
        family = ": a family moves" if "/family/" in text else ""
        raise refuse(
            f"image {text!r} is no image's name{family}", "write projects/<project>/global/images/<name>"
        )
    return text


def _pinned_ami(text: str) -> str:
    if not re.match(r"^(ami-[0-9a-f]{8,17}|resolve:ssm:/\S+)$", text) or _MOVING.search(text):
        raise refuse(
            f"image_id {text!r} names no fixed image",
            "write ami-…; a parameter that holds the latest would give later nodes another image",
        )
    return text


def _pinned_wheel(text: str) -> str:
    if not _WHEEL.match(text) or _MOVING.search(text):
        raise refuse(
            f"wheel {text!r} is not pinned", "write https://…/ray-…whl#sha256=<64 digits>, and no nightly"
        )
    return text


def _without_password(text: str) -> str:
    if re.match(r"^[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]+@", text, re.IGNORECASE):
        raise refuse(
            "the address holds a password, and this file is committed",
            "leave it out here and put it into the file that platform.secrets_file names",
        )
    return text


Cidr = Annotated[str, AfterValidator(_closed)]
Image = Annotated[str, AfterValidator(_pinned_image)]
Ami = Annotated[str, AfterValidator(_pinned_ami)]
MachineImage = Annotated[str, AfterValidator(_named_image)]
Wheel = Annotated[str, AfterValidator(_pinned_wheel)]
Address = Annotated[str, AfterValidator(_without_password)]
ZoneLetter = Annotated[str, Field(pattern=r"^[a-z]$")]


class RayPin(Part):
    """The one version of Ray that every node runs."""

    version: str = Field("2.60.0", pattern=r"^\d+\.\d+\.\d+$", description="the released version of Ray")
    python: str = Field("3.11", pattern=r"^3\.\d+$", description="the version of Python on every node")
    wheel: Wheel | None = Field(
        None, description="a wheel to install in place of the release, with its #sha256="
    )
    constraints: str = Field(
        "constraints.txt", description="the file of pins that is copied to every AWS and GCP node"
    )


class AwsSection(Part):
    """The AWS account's part."""

    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="the region, such as eu-central-1")
    zones: list[ZoneLetter] = Field(["a"], min_length=1, description="letters of the zones to use")
    image_id: Ami = Field(description="the machine image: ami-…, or resolve:ssm:/… of a parameter")
    ssh_user: str = Field("ubuntu", description="the image's user")
    security_groups: list[Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,17}$")]] = Field(
        min_length=1, description="security groups of every node; Ray's own would open SSH to the world"
    )
    head_profile: str = Field("rayplat-head", description="instance profile of the head: it starts nodes")
    worker_profile: str = Field("rayplat-worker", description="instance profile of the workers")
    subnets: dict[ZoneLetter, str] = Field({}, description="subnet by zone letter; empty: the default ones")
    device: str = Field("/dev/sda1", description="the image's root device")
    kms_key: str | None = Field(None, description="key that encrypts disks; empty: the account's own")
    public_ips: bool = Field(False, description="give nodes public addresses")


class GcpSection(Part):
    """The GCP project's part."""

    project: str = Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="the project's id")
    region: str = Field(pattern=r"^[a-z]+-[a-z]+\d+$", description="the region, such as europe-west4")
    zone: ZoneLetter = Field("a", description="letter of the zone: Ray places a cluster in one")
    image: MachineImage = Field(description="the machine image, by name: projects/…/global/images/…")
    ssh_user: str = Field("ubuntu", description="the user that Ray makes on every node")
    head_account: str = Field("rayplat-head", description="service account of the head: it starts nodes")
    worker_account: str = Field("rayplat-worker", description="service account of the workers")
    network_tag: str = Field("rayplat", description="network tag that the firewall rules name")
    subnetwork: str = Field("default", description="subnetwork of every node")
    kms_key: str | None = Field(None, description="key that encrypts disks; empty: Google's own")
    public_ips: bool = Field(False, description="give nodes public addresses")


class KubernetesSection(Part):
    """The Kubernetes cluster's part."""

    namespace: str = Field("rayplat", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    service_account: str = Field("rayplat", description="service account of the pods")
    token_secret: str = Field("rayplat-token", description="Secret whose key auth_token holds the token")
    secrets: str | None = Field(None, description="Secret whose keys become variables of every pod")
    zones: dict[ZoneLetter, str] = Field({}, description="name of a zone by its letter")
    spot_selector: dict[str, str] = Field(
        {}, description="labels that spot nodes have, such as cloud.google.com/gke-spot: 'true'"
    )
    accelerators: dict[str, dict[str, str]] = Field(
        {}, description="labels that nodes with an accelerator have, by accelerator"
    )
    image_pull_secrets: list[str] = Field([], description="Secrets that let the image be pulled")


class PlatformSection(Part):
    """What becomes RAYPLAT_* settings on every node. Passwords do not belong here."""

    warehouse: Address | None = Field(None, description="s3:// or gs:// of tables and artifacts")
    database: Address | None = Field(None, description="postgresql:// of catalog, registry and audit")
    kafka: str | None = Field(None, description="host:port of the brokers")
    redis: Address | None = Field(None, description="redis:// or rediss:// of the online store")
    settings: dict[str, str | int | float | bool] = Field({}, description="further settings, by dotted key")
    secrets_file: str | None = Field(
        None, description="file of RAYPLAT_…=value lines (mode 0600) that is copied to AWS and GCP nodes"
    )
    head_store: Literal["rocksdb", "redis"] = Field(
        "rocksdb", description="where the head's control store keeps its tables; redis: in platform.redis"
    )
    wheels: str = Field(
        "dist", description="folder with rayplat's own wheel, that is copied to AWS and GCP nodes"
    )

    @property
    def environment(self) -> dict[str, str]:
        """The settings as variables, sorted by name."""
        named = {
            "RAYPLAT_WAREHOUSE": self.warehouse,
            "RAYPLAT_DATABASE": self.database,
            "RAYPLAT_KAFKA__BOOTSTRAP": self.kafka,
            "RAYPLAT_ONLINE": self.redis,
            **{f"RAYPLAT_{key.upper().replace('.', '__')}": value for key, value in self.settings.items()},
        }
        return {key: _text(value) for key, value in sorted(named.items()) if value is not None}


class NetworkSection(Part):
    """Who may come in from outside; nobody unless named."""

    ssh_from: list[Cidr] = Field([], description="networks that may reach SSH; empty: a tunnel of the cloud")
    dashboard_from: list[Cidr] = Field(
        [], description="networks that may reach dashboard and jobs API; empty: the head's loopback alone"
    )
    token: str = Field(
        ".rayplat/run/auth_token", description="the token file (mode 0600) that is copied to every node"
    )


class Speedups(Part):
    """How much quicker than in a cloud a simulated cluster moves."""

    idle_timeout_s: float | None = Field(None, gt=0, description="idle timeout of every group, s")
    boot_s: float = Field(0.0, ge=0, description="how long a simulated node takes to come, s")
    autoscaler_s: float = Field(1.0, gt=0, description="the autoscaler looks so often, s")


class SpotTrace(Part):
    """How simulated spot nodes are taken away: notice, then gone."""

    seed: int = Field(0, ge=0, description="decides how long each spot node stays")
    stay_s: float = Field(
        gt=0, description="the mean of a spot node's stay, s; none stays for less than a quarter"
    )
    notice_s: float = Field(5.0, ge=0, description="how long before its end a spot node is told, s")


class LocalSpec(Part):
    """The cluster that `rayplat up` starts on one machine."""

    cpus: int = Field(0, ge=0, description="logical CPUs of the head; 0: as many as the machine has")
    gpus: int = Field(0, ge=0, description="GPUs of the head that are offered to tasks and replicas")
    simulate: bool = Field(False, description="nodes of the groups come and go as processes on this machine")
    speedups: Speedups = Speedups()
    spot_trace: SpotTrace | None = Field(
        None, description="simulated spot nodes are taken away by it; empty: they stay"
    )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
