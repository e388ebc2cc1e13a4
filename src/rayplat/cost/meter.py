"""The meter: nodes that were there and who held them, times prices, as entries that add up exactly.

Knows how a node's money is split; it does not know where facts, prices and owners' names come from. Pure
integer arithmetic: times in microseconds, prices in nano-dollars an hour, entries in nano-dollars.

A node's cost up to a moment is the exact sum of time x price, rounded down; a window costs the
difference of the two ends. So windows of any cut add up to the same, without drift. Inside a window
each moment is split among the owners by the dominant share of the node that they hold (Ghodsi et al.,
"Dominant Resource Fairness", NSDI 2011, section 3), in billionths; where their shares are more than the
node together, in proportion. What nobody holds is idle. The parts are rounded by largest remainder.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rayplat.cost.prices import PriceBook, PriceStep

HOUR_US = 3_600_000_000
SHARE = 10**9
_GRAIN = 10_000
"""Ray counts resources in ten-thousandths."""
IDLE = "idle"
_NOT_HELD = ("node:", "accelerator_type:", "object_store_memory")


@dataclass(frozen=True, slots=True)
class NodeSpan:
    """A node was there from `begin` to `end` (microseconds since 1970)."""

    node: str
    group: str
    market: str
    begin: int
    end: int
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class UseSpan:
    """An owner held resources of a node from `begin` to `end` (microseconds since 1970)."""

    node: str
    kind: str
    owner: str
    job: str
    begin: int
    end: int
    resources: Mapping[str, float]


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """What one owner, or idleness, cost on one node within the window, nano-dollars."""

    node: str
    group: str
    market: str
    kind: str
    owner: str
    job: str
    nano: int


Owner = tuple[str, str, str]
"""Kind, owner, job."""
NOBODY: Owner = (IDLE, "", "")


def meter(
    nodes: Iterable[NodeSpan], uses: Iterable[UseSpan], prices: PriceBook, begin: int, end: int
) -> list[Entry]:
    """The entries of a window, sorted; only those that are not zero.

    Args:
        nodes: spans of one node may touch or overlap: a moment is paid once. All of a node that began
            before the window are needed from their beginning.
        uses: those that overlap the window; outside of their node's spans they hold nothing.
        begin, end: the window, microseconds since 1970.

    Raises:
        UnknownPriceError: a node's group has no price.
    """
    spans: dict[tuple[str, str, str], list[NodeSpan]] = defaultdict(list)
    for node in nodes:
        if node.end > node.begin and node.begin < end:
            spans[node.node, node.group, node.market].append(node)
    held: dict[str, list[UseSpan]] = defaultdict(list)
    for use in uses:
        if use.end > begin and use.begin < end and use.end > use.begin:
            held[use.node].append(use)
    entries: list[Entry] = []
    for (name, group, market), own in spans.items():
        steps = prices.of(group, market)
        pieces = _union(own)
        total = _whole(pieces, steps, end) - _whole(pieces, steps, begin)
        if total:
            parts = _split(pieces, own[0].resources, held.get(name, ()), steps, (begin, end))
            entries += [Entry(name, group, market, *who, n) for who, n in _rounded(parts, total)]
    return sorted(entries)


def cost_until(nodes: Iterable[NodeSpan], prices: PriceBook, end: int) -> int:
    """What one node cost from its beginning to a moment, nano-dollars; its owners are not looked at."""
    own = list(nodes)
    return _whole(_union(own), prices.of(own[0].group, own[0].market), end) if own else 0


def _union(spans: Sequence[NodeSpan]) -> list[tuple[int, int]]:
    pieces: list[tuple[int, int]] = []
    for begin, end in sorted((s.begin, s.end) for s in spans):
        if pieces and begin <= pieces[-1][1]:
            pieces[-1] = (pieces[-1][0], max(end, pieces[-1][1]))
        else:
            pieces.append((begin, end))
    return pieces


def _whole(pieces: Sequence[tuple[int, int]], steps: Sequence[PriceStep], until: int) -> int:
    exact = 0
    for begin, end in pieces:
        for at, step in enumerate(steps):
            stop = steps[at + 1].since if at + 1 < len(steps) else until
            exact += max(0, min(end, stop, until) - max(begin, step.since)) * step.nano_per_hour
    return exact // HOUR_US


def _split(
    pieces: Sequence[tuple[int, int]],
    capacity: Mapping[str, float],
    uses: Sequence[UseSpan],
    steps: Sequence[PriceStep],
    window: tuple[int, int],
) -> dict[Owner, Fraction | int]:
    """Exact time x price x share of each owner, in units of nano-dollars / (HOUR_US x SHARE)."""
    begin, end = window
    changes = sorted(
        [(max(u.begin, begin), 1, u) for u in uses] + [(min(u.end, end), -1, u) for u in uses],
        key=lambda change: (change[0], change[1]),
    )
    cuts = sorted({step.since for step in steps} | {at for piece in pieces for at in piece})
    limits = {name: round(n * _GRAIN) for name, n in capacity.items() if _counts(name) and n > 0}
    holding = _Holding(limits)
    parts: dict[Owner, Fraction | int] = defaultdict(int)
    at, cut = begin, 0
    for moment, sign, use in [*changes, (end, 0, None)]:
        while cut < len(cuts) and cuts[cut] <= at:
            cut += 1
        while at < moment:
            stop = min(moment, cuts[cut]) if cut < len(cuts) else moment
            if any(first <= at < last for first, last in pieces):
                holding.pay((stop - at) * _price(steps, at), parts)
            at = stop
            while cut < len(cuts) and cuts[cut] <= at:
                cut += 1
        if use is not None:
            holding.change(use, sign)
    return parts


def _price(steps: Sequence[PriceStep], at: int) -> int:
    return next((step.nano_per_hour for step in reversed(steps) if step.since <= at), 0)


def _counts(name: str) -> bool:
    return not name.startswith(_NOT_HELD)


class _Holding:
    """Who holds how much of a node at a moment."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._held: dict[Owner, dict[str, int]] = {}
        self._uses: dict[Owner, int] = {}
        self._shares: dict[Owner, int] = {}

    def change(self, use: UseSpan, sign: int) -> None:
        owner = (use.kind, use.owner, use.job)
        mine = self._held.setdefault(owner, dict.fromkeys(self._limits, 0))
        for name, amount in use.resources.items():
            if name in mine:
                mine[name] += sign * round(amount * _GRAIN)
        self._uses[owner] = self._uses.get(owner, 0) + sign
        share = max((mine[name] * SHARE // limit for name, limit in self._limits.items()), default=0)
        if share > 0:
            self._shares[owner] = min(share, SHARE)
        else:
            self._shares.pop(owner, None)
        if not self._uses[owner]:
            del self._held[owner], self._uses[owner]

    def pay(self, amount: int, parts: dict[Owner, Fraction | int]) -> None:
        together = sum(self._shares.values())
        if together > SHARE:
            for owner, share in self._shares.items():
                parts[owner] += Fraction(amount * share * SHARE, together)
            return
        for owner, share in self._shares.items():
            parts[owner] += amount * share
        if together < SHARE:
            parts[NOBODY] += amount * (SHARE - together)


def _rounded(parts: Mapping[Owner, Fraction | int], total: int) -> list[tuple[Owner, int]]:
    """Whole nano-dollars that add up to `total`, each less than one away from its exact part."""
    unit = HOUR_US * SHARE
    whole = {owner: int(part // unit) for owner, part in parts.items()}
    # Equal remainders go by name, so that the same facts give the same entries.
    order = sorted(parts, key=lambda owner: (-(parts[owner] % unit), owner))
    for owner in order[: total - sum(whole.values())]:
        whole[owner] += 1
    return [(owner, amount) for owner, amount in whole.items() if amount]
