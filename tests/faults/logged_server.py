"""The server of `tests.features.server.world` with a log whose files are small: run as a script."""

import sys
from pathlib import Path

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.parity.log import FeatureLog
from rayplat.features.server.process import Where, serve
from tests.features.server import world


def open_log(settings: Settings) -> FeatureLog:
    return FeatureLog(settings.home / "feature_log", Lakehouse(settings), rows=300)


if __name__ == "__main__":
    serve(
        world.settings(sys.argv[1]),
        str(Path(world.__file__)),
        Where(port=int(sys.argv[2]), workers=int(sys.argv[3])),
        lambda url: print(url, flush=True),
        open_log,
    )
