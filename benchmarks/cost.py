"""What the books of costs are worth, and what an idle platform takes.

Run: .venv/bin/python benchmarks/cost.py [--json] [--quick]

`meter_error` is the difference, in nano-dollars, between the meter's entries and an independent sum of
node-seconds x price over random nodes and uses, metered whole and hour by hour; it must be 0.
`idle_core_fraction` is the CPU that the platform's own processes take beside Ray's while nothing runs.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import psutil
from harness import ROOT, Claim, main

BIN = Path(sys.executable).parent
NODES, USES = 100_000, 200_000
_SEED = 20_260_302
_SETTLE_S, _IDLE_S = 15.0, 60.0


def meter_claims(nodes: int, uses: int) -> list[Claim]:
    from rayplat.cost.meter import HOUR_US, NodeSpan, UseSpan, meter
    from rayplat.cost.prices import PriceBook, PriceStep

    chance = random.Random(_SEED)
    day = 24 * HOUR_US
    prices = {
        (group, market): (
            PriceStep(0, chance.randrange(10**8, 10**11)),
            PriceStep(chance.randrange(day), chance.randrange(10**8, 10**11)),
        )
        for group in ("cpu", "gpu", "large")
        for market in ("on-demand", "spot")
    }
    spans = []
    for number in range(nodes):
        begin, end = sorted(chance.randrange(day) for _ in range(2))
        group, market = chance.choice(list(prices))
        spans.append(NodeSpan(f"n{number}", group, market, begin, end, {"CPU": 16.0, "GPU": 2.0}))
    held = []
    for number in range(uses):
        begin, end = sorted(chance.randrange(day) for _ in range(2))
        resources = {"CPU": chance.randrange(1, 16) + 0.5, "GPU": chance.choice((0.0, 0.3, 1.0))}
        owner = f"j{number % 997}"
        held.append(UseSpan(f"n{chance.randrange(nodes)}", "job", owner, "", begin, end, resources))
    book = PriceBook(prices)
    started = time.perf_counter()
    entries = meter(spans, held, book, 0, day)
    seconds = time.perf_counter() - started
    wanted = 0
    for span in spans:
        exact = Fraction(0)
        first, second = prices[span.group, span.market]
        for microsecond_price, begin, end in (
            (first.nano_per_hour, span.begin, min(span.end, second.since)),
            (second.nano_per_hour, max(span.begin, second.since), span.end),
        ):
            exact += Fraction(max(0, end - begin)) / HOUR_US * microsecond_price
        wanted += exact.numerator // exact.denominator
    error = abs(sum(e.nano for e in entries) - wanted)
    # Hour by hour, for a part of the nodes: rounding must not drift.
    some = spans[: nodes // 20]
    names = {span.node for span in some}
    theirs = [use for use in held if use.node in names]
    hours = sum(
        e.nano for hour in range(24) for e in meter(some, theirs, book, hour * HOUR_US, (hour + 1) * HOUR_US)
    )
    error += abs(hours - sum(e.nano for e in entries if e.node in names))
    note = f"{nodes:,} nodes, {uses:,} uses, {len(entries):,} entries"
    return [
        Claim("meter_error", "nano-USD", [error], note=note),
        Claim("meter_facts_per_s", "1/s", [(nodes + uses) / seconds], higher_is_better=True, note=note),
    ]


def idle() -> list[Claim]:
    """CPU of the platform's own processes beside Ray's, as a part of one core, over a minute."""
    from rayplat.core.settings import Settings
    from rayplat.cost.steward import start

    with tempfile.TemporaryDirectory(prefix="rayplat-idle-") as folder:
        settings = Settings.model_validate({"home": folder})
        common = ["--home", folder]
        subprocess.run([BIN / "rayplat", "up", *common], cwd=ROOT, capture_output=True, check=True)
        try:
            start(settings)
            time.sleep(_SETTLE_S)
            own = _own(settings)
            before, begin = {p.pid: _cpu(p) for p in own}, time.perf_counter()
            time.sleep(_IDLE_S)
            spent = sum(_cpu(p) - before[p.pid] for p in own)
            seconds = time.perf_counter() - begin
            names = ", ".join(sorted(_module(p) for p in own))
        finally:
            subprocess.run([BIN / "rayplat", "down", *common], cwd=ROOT, capture_output=True, check=False)
    return [Claim("idle_core_fraction", "cores", [spent / seconds], note=names)]


def _own(settings: object) -> list[psutil.Process]:
    from rayplat.cluster.processes import ours

    return [p for p in ours(settings) if _module(p)]  # type: ignore[arg-type]


def _module(process: psutil.Process) -> str:
    """The module of rayplat that a process is; empty for Ray's own."""
    try:
        line = process.cmdline()
    except psutil.Error:
        return ""
    at = line.index("-m") + 1 if "-m" in line else len(line)
    return line[at] if at < len(line) and line[at].startswith("rayplat") else ""


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(quick: bool) -> Sequence[Claim]:
    if quick:
        print("skipped by --quick: idle_core_fraction (it takes over a minute)", file=sys.stderr)
        return meter_claims(NODES // 10, USES // 10)
    return [*meter_claims(NODES, USES), *idle()]


if __name__ == "__main__":
    main(measure, "What the books of costs are worth, and what an idle platform takes.")
