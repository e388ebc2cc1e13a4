"""The world of `world`, served with every vector logged in a real lakehouse: run as a script."""

import sys
from pathlib import Path

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.parity.log import FeatureLog, open_feature_log
from rayplat.features.server.process import Where, serve
from tests.features.server.world import settings


def open_log(found: Settings) -> FeatureLog:
    return open_feature_log(found, Lakehouse(found))


if __name__ == "__main__":
    serve(
        settings(sys.argv[1]),
        str(Path(__file__).with_name("world.py")),
        Where(port=int(sys.argv[2]), workers=int(sys.argv[3])),
        lambda url: print(url, flush=True),
        open_log,
    )
