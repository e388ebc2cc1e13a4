"""A node group: what a node of it has, how many there may be, and on which market they are bought.

Knows one group alone; it does not know the groups beside it, nor which machine a cloud gives for it.
"""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from rayplat.cluster.spec.part import Part

MEMORY_SHARE = 0.7
"""The part of a node's memory that tasks may ask for; the rest is Ray's object store, as in Ray's own."""

GIB = 2**30
LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$"


class Spot(Part):
    """How much of a group is bought on the spot market."""

    share: float = Field(0.0, ge=0, le=1, description="part of the group's nodes that may be spot, 0 to 1")
    fallback: Literal["on-demand", "none"] = Field(
        "on-demand", description="what is bought when the spot market has nothing: on-demand nodes, or none"
    )


class AwsGroup(Part):
    """What AWS alone is told about a group."""

    instance_type: str | None = Field(
        None, description="the machine; chosen from the catalogue when it is not named"
    )
    skip: bool = Field(False, description="leave this group out of the AWS cluster")


class GcpGroup(Part):
    """What GCP alone is told about a group."""

    machine_type: str | None = Field(
        None, description="the machine; chosen from the catalogue when it is not named"
    )
    skip: bool = Field(False, description="leave this group out of the GCP cluster")


class Toleration(Part):
    """A taint of Kubernetes nodes that a group's pods accept."""

    key: str
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class KubernetesGroup(Part):
    """What Kubernetes alone is told about a group."""

    node_selector: dict[str, str] = Field({}, description="labels that the Kubernetes node must have")
    tolerations: list[Toleration] = Field([], description="taints of Kubernetes nodes that are accepted")
    skip: bool = Field(False, description="leave this group out of the Kubernetes cluster")


class NodeGroup(Part):
    """Nodes of one shape that come and go together."""

    kind: Literal["head", "cpu", "gpu"] = Field(description="head: the one that leads; cpu or gpu: workers")
    accelerator: str | None = Field(None, description="Ray's name of the GPU, such as L4, A10G, A100, H100")
    gpus: int = Field(0, ge=0, le=16, description="GPUs of a node")
    cpus: int = Field(4, ge=1, description="logical CPUs of a node")
    memory_gib: float = Field(16, gt=0, description="memory of a node, GiB")
    disk_gib: int = Field(100, ge=20, description="disk of a node, GiB")
    labels: dict[str, str] = Field({}, description="labels that tasks may select nodes by")
    min: int = Field(0, ge=0, description="nodes that are always there")
    max: int = Field(1, ge=0, description="nodes that there are at most")
    spot: Spot = Spot()
    zones: list[str] = Field([], description="letters of the region's zones; empty: any that the target has")
    idle_timeout_s: float | None = Field(
        None, gt=0, description="an idle node leaves after so long, s; empty: the cluster's"
    )
    aws: AwsGroup = AwsGroup()
    gcp: GcpGroup = GcpGroup()
    kubernetes: KubernetesGroup = KubernetesGroup()

    @property
    def resources(self) -> dict[str, float]:
        """What a node offers to Ray: CPU, memory in bytes, GPU and its accelerator type if it has any."""
        found: dict[str, float] = {"CPU": self.cpus, "memory": int(self.memory_gib * GIB * MEMORY_SHARE)}
        if self.gpus:
            found["GPU"] = self.gpus
            if self.accelerator:
                found[f"accelerator_type:{self.accelerator}"] = 1
        return found

    @property
    def spot_max(self) -> int:
        """Nodes that may be spot at a time, rounded half up."""
        return int(self.max * self.spot.share + 0.5)

    @model_validator(mode="before")
    @classmethod
    def _head_is_one(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("kind") == "head":
            return {"min": 1, "max": 1, **data}
        return data

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        # Everything that is wrong with the group alone; each fault carries the key that it is about.
        faults: list[tuple[str, str, str]] = []
        if self.min > self.max:
            faults.append(("min", f"min is {self.min}, max is {self.max}", "raise max or lower min"))
        if self.kind == "gpu" and not self.gpus:
            faults.append(("kind", "a group of kind gpu has gpus: 0", "write gpus: 1 or more, or kind: cpu"))
        if self.kind == "gpu" and not self.accelerator:
            faults.append(("kind", "a group of kind gpu names no accelerator", "write accelerator: L4"))
        if self.kind != "gpu" and (self.gpus or self.accelerator):
            key = "gpus" if self.gpus else "accelerator"
            faults.append((key, f"a group of kind {self.kind} has GPUs", "write kind: gpu, or remove it"))
        if self.kind == "head":
            faults += _head_faults(self)
        if faults:
            raise PydanticCustomError("together", "{text}", {"text": faults[0][1], "faults": faults})
        return self


def _head_faults(head: NodeGroup) -> list[tuple[str, str, str]]:
    faults = []
    if (head.min, head.max) != (1, 1):
        key = "max" if head.max != 1 else "min"
        faults.append((key, f"the head has min {head.min} and max {head.max}", "remove both: it is always 1"))
    if head.spot.share:
        faults.append(
            ("spot", "the head would be spot, and its loss stops the cluster", "remove spot from the head")
        )
    return faults
