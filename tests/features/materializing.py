"""A process that materializes and may be killed: run as a script with the home of a platform."""

import sys
from pathlib import Path

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.materialize import materialize
from rayplat.features.online.opening import open_online
from tests.features.worlds import latest_view, window_view

VIEWS = [latest_view(), window_view(["5h"])]


def main(home: str) -> None:
    settings = Settings(home=Path(home))
    lake = Lakehouse(settings)
    online = open_online(settings)
    online.views()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    materialize(lake, online, VIEWS, step_rows=500)
    online.close()
    lake.close()


if __name__ == "__main__":
    main(sys.argv[1])
