"""Teams, prices and budgets as the cluster file says them.

Knows their keys and their order; it does not know what was spent.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from rayplat.cluster.spec.part import Part, refuse


class Team(Part):
    """People who share a quota."""

    quota: dict[str, float] = Field({}, description="most that the team may hold at a time, by resource")
    members: list[str] = Field([], description="users of the team")


class OwnPrice(Part):
    """What a node of a group costs, USD an hour."""

    on_demand: float = Field(ge=0, description="USD an hour on demand")
    spot: float | None = Field(None, ge=0, description="USD an hour on the spot market; empty: as on demand")


class Prices(Part):
    """Where prices come from; own prices win over the file."""

    file: str | None = Field(None, description="a price file; empty: the list prices that come with rayplat")
    own: dict[str, OwnPrice] = Field({}, description="own prices, by group")


class BudgetSpec(Part):
    """Money that may be spent, and what happens on the way there."""

    scope: Literal["team", "project", "run"] = Field(description="what the money is for")
    name: str = Field(description="the team, project or run; * for each of them")
    limit_usd: float = Field(gt=0, description="the money, USD")
    per: Literal["day", "month", "run", "total"] = Field("month", description="the time that it is for")
    warn_at: float = Field(0.8, gt=0, description="warn at this part of the limit")
    refuse_at: float = Field(0.95, gt=0, description="refuse new work at this part")
    stop_at: float = Field(1.0, gt=0, description="checkpoint and stop what runs at this part")
    may_stop_endpoints: bool = Field(False, description="stop serving endpoints as well")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.warn_at <= self.refuse_at <= self.stop_at:
            raise refuse(
                f"warn_at {self.warn_at:g}, refuse_at {self.refuse_at:g} and stop_at {self.stop_at:g} "
                "are not in this order",
                "give each at least the one before: warn_at <= refuse_at <= stop_at",
            )
        return self
