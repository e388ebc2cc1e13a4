"""Processes of their own for the tests of maintenance: writers, and maintenance that is killed at a step.

Run as `python processes.py append HOME FIRST COUNT` or `python processes.py KIND HOME STEP NUMBER`.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rayplat.core.project.table import zorder
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.maintenance.compact import Compaction
from rayplat.data.lakehouse.maintenance.expire import Expiry
from rayplat.data.lakehouse.maintenance.plan import Lifetime, Packing
from rayplat.data.lakehouse.pins import Pins
from tests.data.lakehouse.maintenance.worlds import NAME, rows

EACH = 5
ALL = Lifetime(timedelta(0), keep_last=1, grace=timedelta(0))
STEPS = {
    "compact": ("planned", "rewritten", "committed"),
    "expire": ("sentenced", "archived", "dropped", "expired", "deleted"),
}


def append(home: str, first: int, count: int) -> None:
    lake = Lakehouse(Settings(home=Path(home)))
    table = lake.table(NAME)
    for number in range(count):
        begin = first + number * EACH
        table.append(rows(*range(begin, begin + EACH), part=f"p{number % 2}"))
        time.sleep(0.1)  # so that maintenance really runs beside the writers, not after them
    lake.close()


def killer(step: str, number: int) -> Callable[[str], None]:
    """Kills this process when it comes to a step for the n-th time."""
    seen = [0]

    def at(name: str) -> None:
        seen[0] += name == step
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def compact(home: str, step: Callable[[str], None]) -> None:
    table = Lakehouse(Settings(home=Path(home))).table(NAME)
    Compaction(table, Packing(20_000, 2), zorder("id"), step=step).compact()


def expire(home: str, step: Callable[[str], None]) -> None:
    settings = Settings(home=Path(home))
    later = datetime.now(UTC) + timedelta(days=1)
    Expiry(Pins(settings), lifetime=ALL, step=step).expire(Lakehouse(settings).table(NAME), later)


if __name__ == "__main__":
    kind, place, third, fourth = sys.argv[1:]
    if kind == "append":
        append(place, int(third), int(fourth))
    else:
        {"compact": compact, "expire": expire}[kind](place, killer(third, int(fourth)))
