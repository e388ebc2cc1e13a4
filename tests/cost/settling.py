"""Settles a ledger hour by hour in a loop; started and killed by a test.

Run: python -m tests.cost.settling HOME
"""

import sys
from pathlib import Path

from rayplat.core.settings import Settings
from rayplat.cost.ledger import Ledger
from tests.cost.fakes import HOUR, T0, FakeFacts, FakeJobs, book, node, use

BOOK = book(cpu=1_234_567_891)
HOURS = 400


def facts() -> FakeFacts:
    return FakeFacts(
        [node(f"n{n}", n * 0.37, HOURS - n * 1.1) for n in range(6)],
        [use(f"n{n}", f"j{n % 4}", n * 2.3, HOURS - 3 * n) for n in range(6)],
    )


if __name__ == "__main__":
    ledger = Ledger(Settings(home=Path(sys.argv[1])), facts(), FakeJobs())
    print("begun", flush=True)
    ledger.settle(BOOK, T0 + HOURS * HOUR)
    print("done", flush=True)
