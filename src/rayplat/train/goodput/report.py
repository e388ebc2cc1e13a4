"""The goodput of a run as it is kept and shown, while it trains and after.

Knows the report's form and where it is kept; it does not know how the times came about (`accounts`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from rayplat.core.errors import NotFoundError
from rayplat.registry.folder import open_folders, read_file
from rayplat.train.goodput.spending import NS, Spending, Spent
from rayplat.train.goodput.words import explain

GOODPUT = "goodput.json"
"""The file, in a live run's folder and in the artifact."""
Price = Callable[[str], float | None]
"""What a run has cost so far by its own name, USD; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class GoodputReport:
    """What a run's time was spent on so far.

    Attributes:
        run: the run's own name.
        spending: worker time by category, over all calls of the run.
        furthest: how many steps were done, also those that were lost since.
        losses: how many workers were lost.
        worlds: how many workers each generation had.
        usd: what it has cost; None where nobody knows.
        system: curves of the workers' machines, (seconds, value) by name.
    """

    run: str
    spending: Spending
    furthest: int = 0
    losses: int = 0
    worlds: tuple[int, ...] = ()
    usd: float | None = None
    system: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def priced(self, price: Price) -> "GoodputReport":
        """With what it has cost, where that is known."""
        return replace(self, usd=price(self.run))

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "run": self.run,
            "ns": self.spending.as_json(),
            "furthest": self.furthest,
            "losses": self.losses,
            "worlds": list(self.worlds),
            "system": self.system,
        }

    @staticmethod
    def of_json(plain: dict[str, Any]) -> "GoodputReport":
        """What was kept."""
        return GoodputReport(
            run=str(plain["run"]),
            spending=Spending.of_json(plain["ns"]),
            furthest=int(plain["furthest"]),
            losses=int(plain["losses"]),
            worlds=tuple(int(n) for n in plain["worlds"]),
            system={k: [(int(s), float(v)) for s, v in c] for k, c in plain["system"].items()},
        )

    def shown(self) -> dict[str, Any]:
        """As a person reads it: seconds, shares and money by category, and the largest loss in words."""
        money = self.spending.usd(self.usd) if self.usd is not None else {}
        rows = [
            {
                "spent_on": str(spent),
                "seconds": self.spending.seconds(spent),
                "share": self.spending.share(spent),
                "usd": money.get(str(spent)),
            }
            for spent in Spent
        ]
        return {
            "run": self.run,
            "goodput": self.spending.goodput,
            "worker_seconds": self.spending.total_ns / NS,
            "usd": self.usd,
            "steps": self.furthest,
            "workers_lost": self.losses,
            "worlds": list(self.worlds),
            "by": rows,
            "largest_loss": explain(self.spending, self.usd),
        }


def keep_report(run_uri: str, number: int, report: GoodputReport) -> None:
    """Write a running run's report down as its newest; the one before it goes."""
    store, path = open_folders(f"{run_uri}/goodput/{number:08d}")
    store.publish(path, {GOODPUT: json.dumps(report.as_json()).encode()}, last=GOODPUT)
    folder, root = open_folders(f"{run_uri}/goodput")
    for older in folder.folders(root):
        if older < f"{number:08d}":
            folder.remove(f"{root}/{older}")


def kept_report(run_uri: str) -> tuple[int, GoodputReport] | None:
    """The newest report of a run and its number; None where there is none."""
    store, path = open_folders(f"{run_uri}/goodput")
    for name in reversed(store.folders(path)):
        try:
            content = read_file(f"{run_uri}/goodput/{name}", GOODPUT)
        except NotFoundError:  # another one was written meanwhile
            continue
        return int(name), GoodputReport.of_json(json.loads(content))
    return None
