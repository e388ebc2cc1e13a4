"""Scores a table in a process of its own, and kills itself at a named place.

Run: scoring_driver.py HOME PLACE, with PLACE one of `scored`, `committed`, `never`.
"""

import os
import signal
import sys
from pathlib import Path

from rayplat.core.events import EventBus
from rayplat.core.project.load import load_project
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.registry.store import Registry
from rayplat.serve.bulk import score
from rayplat.serve.bulk.plan import Rows


def main(home: Path, place: str) -> None:
    """Score `raw.readings` by version 1 of `leak`."""

    class Killed(FencedCommitter):
        def commit(self, *args, **kwargs):
            if place == "scored":
                os.kill(os.getpid(), signal.SIGKILL)
            made = super().commit(*args, **kwargs)
            if place == "committed":
                os.kill(os.getpid(), signal.SIGKILL)
            return made

    score.FencedCommitter = Killed
    settings = Settings(home=home)
    bulk = score.BulkScoring(settings, Lakehouse(settings), EventBus())
    version = Registry(settings).version("leak", 1)
    made = bulk.score(load_project(str(home / "meters")), version, Rows("raw.readings"))
    print("found" if made.found else "made", made.rows, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
