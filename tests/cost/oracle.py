"""The meter's oracle: plain loops over small stretches, with exact fractions and no rounding."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

from rayplat.cost.meter import HOUR_US, IDLE, NodeSpan, UseSpan
from rayplat.cost.prices import PriceBook


def exact(
    nodes: Sequence[NodeSpan], uses: Sequence[UseSpan], prices: PriceBook, begin: int, end: int
) -> dict[tuple[str, str, str, str], Fraction]:
    """Nano-dollars by (node, kind, owner, job)."""
    money: dict[tuple[str, str, str, str], Fraction] = defaultdict(Fraction)
    for name in sorted({n.node for n in nodes}):
        own = [n for n in nodes if n.node == name]
        mine = [u for u in uses if u.node == name]
        steps = prices.of(own[0].group, own[0].market)
        cuts = {begin, end, *(s.since for s in steps)}
        for span in (*own, *mine):
            cuts |= {span.begin, span.end}
        inside = sorted(c for c in cuts if begin <= c <= end)
        for first, last in itertools.pairwise(inside):
            if not any(n.begin <= first and last <= n.end for n in own):
                continue
            price = [s.nano_per_hour for s in steps if s.since <= first][-1]
            paid = Fraction((last - first) * price, HOUR_US)
            held: dict[tuple[str, str, str], dict[str, Fraction]] = {}
            for u in mine:
                if u.begin <= first and last <= u.end:
                    sums = held.setdefault((u.kind, u.owner, u.job), defaultdict(Fraction))
                    for resource, amount in u.resources.items():
                        sums[resource] += Fraction(amount)
            shares = {
                owner: min(
                    Fraction(1),
                    max((sums[r] / Fraction(c) for r, c in own[0].resources.items()), default=Fraction(0)),
                )
                for owner, sums in held.items()
            }
            together = sum(shares.values(), Fraction(0))
            scale = max(Fraction(1), together)
            for owner, share in shares.items():
                money[name, *owner] += paid * share / scale
            money[name, IDLE, "", ""] += paid * max(Fraction(0), 1 - together)
    return money


def whole(nodes: Sequence[NodeSpan], prices: PriceBook, begin: int, end: int) -> int:
    """Nano-dollars of all nodes: each node's exact cost up to a moment, rounded down, at both ends."""
    total = 0
    for name in {n.node for n in nodes}:
        own = [n for n in nodes if n.node == name]
        steps = prices.of(own[0].group, own[0].market)
        sums = []
        for until in (begin, end):
            edges = sorted({n.begin for n in own} | {n.end for n in own} | {s.since for s in steps} | {until})
            paid = Fraction(0)
            for first, last in itertools.pairwise(edges):
                if last <= until and any(n.begin <= first and last <= n.end for n in own):
                    price = [s.nano_per_hour for s in steps if s.since <= first][-1]
                    paid += Fraction((last - first) * price, HOUR_US)
            sums.append(paid.numerator // paid.denominator)
        total += sums[1] - sums[0]
    return total
