"""The world of `world`, with a log of which little may wait: run as a script."""

import sys
from pathlib import Path

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.parity.log import FeatureLog
from rayplat.features.server.process import Where, serve
from tests.features.server import world

MUCH_WAITING = 1 << 20


def open_log(found: Settings) -> FeatureLog:
    lake = Lakehouse(found)
    return FeatureLog(found.home / "feature_log", lake, rows=400, much_waiting=MUCH_WAITING)


if __name__ == "__main__":
    serve(
        world.settings(sys.argv[1]),
        str(Path(world.__file__)),
        Where(port=int(sys.argv[2]), workers=int(sys.argv[3])),
        lambda url: print(url, flush=True),
        open_log,
    )
