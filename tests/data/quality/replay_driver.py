"""A real replay in a process of its own, which kills itself at a crash point if it is told to.

Run: python replay_driver.py HOME POINT — with POINT `none` it runs to its end.
Exit codes: those of rayplat's errors (4: another replay was faster).
"""

import os
import signal
import sys
from pathlib import Path

from rayplat.core.errors import RayplatError
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.quality.replay import replay


def main(home: str, point: str) -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from tests.data.quality.aside_world import decode, orders

    def on_point(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    lake = Lakehouse(Settings(home=Path(home)))
    try:
        replay(lake, orders(most=1000), decode, EventBus(), on_point=on_point)
    except RayplatError as error:
        sys.stderr.write(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
