"""Savings: what was paid against the fixed alternative, split into where the difference comes from.

The alternative is a cluster that never changes: every group at the largest size that it had, on
demand, for the whole window. Knows how the difference is split; it does not know where facts come
from. Pure. Three steps lead from there to what was paid, and their differences add up exactly:

1. elasticity: a group that has nodes has only those that it needs, not always its largest number;
2. scale to zero: while a group has no node at all, nothing is paid for it;
3. spot: what was bought on the spot market costs the spot price.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from rayplat.cost.meter import HOUR_US, NodeSpan, cost_until
from rayplat.cost.prices import PriceBook, PriceStep


@dataclass(frozen=True, slots=True)
class Savings:
    """A window's money, nano-dollars: `fixed` = `paid` + `spot` + `scale_to_zero` + `elasticity`."""

    fixed: int
    paid: int
    spot: int
    scale_to_zero: int
    elasticity: int


def savings(nodes: Iterable[NodeSpan], prices: PriceBook, begin: int, end: int) -> Savings:
    """Compare a window with the fixed alternative.

    Args:
        nodes: every node that overlaps the window, with its whole life.
        begin, end: the window, microseconds since 1970.
    """
    groups: dict[str, list[NodeSpan]] = defaultdict(list)
    for node in nodes:
        if max(node.begin, begin) < min(node.end, end):
            groups[node.group].append(node)
    parts = [_of_group(name, own, prices, begin, end) for name, own in groups.items()]
    return Savings(
        sum(p.fixed for p in parts),
        sum(p.paid for p in parts),
        sum(p.spot for p in parts),
        sum(p.scale_to_zero for p in parts),
        sum(p.elasticity for p in parts),
    )


def _of_group(group: str, nodes: list[NodeSpan], prices: PriceBook, begin: int, end: int) -> Savings:
    steps = prices.of(group, "on-demand")
    peak, any_node = _peak(nodes, begin, end)
    fixed = peak * _priced([(begin, end)], steps)
    present = peak * _priced(any_node, steps)
    by_node: dict[tuple[str, str], list[NodeSpan]] = defaultdict(list)
    for node in nodes:
        by_node[node.node, node.market].append(node)
    paid = on_demand = 0
    for own in by_node.values():
        paid += cost_until(own, prices, end) - cost_until(own, prices, begin)
        as_on_demand = [NodeSpan(n.node, n.group, "on-demand", n.begin, n.end, n.resources) for n in own]
        on_demand += cost_until(as_on_demand, prices, end) - cost_until(as_on_demand, prices, begin)
    return Savings(fixed, paid, on_demand - paid, fixed - present, present - on_demand)


def _peak(nodes: Iterable[NodeSpan], begin: int, end: int) -> tuple[int, list[tuple[int, int]]]:
    """The most nodes at a time, and the stretches in which there was any."""
    changes = [(max(n.begin, begin), 1) for n in nodes] + [(min(n.end, end), -1) for n in nodes]
    count = most = since = 0
    stretches = []
    for at, sign in sorted(changes):  # at one moment, leaving comes before coming
        if count == 0 and sign > 0:
            since = at
        count += sign
        most = max(most, count)
        if count == 0 and at > since:
            stretches.append((since, at))
    return most, stretches


def _priced(stretches: Iterable[tuple[int, int]], steps: tuple[PriceStep, ...]) -> int:
    exact = 0
    for begin, end in stretches:
        for place, step in enumerate(steps):
            stop = steps[place + 1].since if place + 1 < len(steps) else end
            exact += max(0, min(end, stop) - max(begin, step.since)) * step.nano_per_hour
    return exact // HOUR_US
