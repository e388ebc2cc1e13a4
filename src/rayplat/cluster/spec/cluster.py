"""The cluster file as a value.

Knows its parts and that they hold together; it does not know how it was read, nor what is made of it.
"""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from rayplat.cluster.spec.groups import NodeGroup
from rayplat.cluster.spec.money import BudgetSpec, Prices, Team
from rayplat.cluster.spec.part import Part
from rayplat.cluster.spec.rules import breaches
from rayplat.cluster.spec.sections import (
    AwsSection,
    GcpSection,
    Image,
    KubernetesSection,
    LocalSpec,
    NetworkSection,
    PlatformSection,
    RayPin,
)

GroupName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$")]


class ClusterSpec(Part):
    """The whole cluster file. What every target is made from."""

    name: str = Field(
        "rayplat",
        pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$",
        description="the cluster's name: lower case, digits, hyphens",
    )
    ray: RayPin = RayPin()
    image: Image = Field(
        "rayproject/ray:2.60.0-py311", description="the container of every node on Kubernetes, pinned"
    )
    groups: dict[GroupName, NodeGroup] = Field(
        {"head": NodeGroup(kind="head")}, description="node groups by name; one is of kind head"
    )
    aws: AwsSection | None = Field(None, description="the AWS account's part; none: no AWS cluster")
    gcp: GcpSection | None = Field(None, description="the GCP project's part; none: no GCP cluster")
    kubernetes: KubernetesSection | None = Field(
        None, description="the Kubernetes cluster's part; none: no Kubernetes cluster"
    )
    platform: PlatformSection = PlatformSection()
    teams: dict[str, Team] = Field({}, description="teams by name")
    prices: Prices = Prices()
    budgets: list[BudgetSpec] = Field([], description="money that may be spent")
    network: NetworkSection = NetworkSection()
    local: LocalSpec = LocalSpec()
    idle_timeout_s: float = Field(300, gt=0, description="an idle node leaves after so long, s")
    upscaling_speed: float = Field(
        1.0, gt=0, description="nodes that may start at a time, as a multiple of those that run"
    )

    @property
    def head(self) -> tuple[str, NodeGroup]:
        """The group of kind head, with its name."""
        return next((name, group) for name, group in self.groups.items() if group.kind == "head")

    @property
    def workers(self) -> dict[str, NodeGroup]:
        """The groups that are not the head, in the file's order."""
        return {name: group for name, group in self.groups.items() if group.kind != "head"}

    def idle_timeout_of(self, group: str) -> float:
        """How long a node of a group may idle before it leaves, s."""
        own = self.groups[group].idle_timeout_s
        return self.idle_timeout_s if own is None else own

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        found = breaches(self)
        if found:
            text = "; ".join(f"{'.'.join(map(str, b.at))}: {b.what}" for b in found)
            raise PydanticCustomError("breaches", "{text}", {"text": text, "breaches": found})
        return self
