"""A real ingest driver in a process of its own, which kills itself at a crash point if it is told to.

Run: python ingest_driver.py HOME BOOTSTRAP POINT TIMES [service] — with POINT `none` it runs to its end; a
service ends at SIGTERM. Exit codes: those of rayplat's errors (4: another driver was faster).
"""

import os
import signal
import sys
from pathlib import Path

from rayplat.core.errors import RayplatError
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, KafkaSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from rayplat.data.streaming.readers import InlineReaders
from rayplat.data.streaming.service import IngestService


def main(home: str, bootstrap: str, point: str, times: int, mode: str = "once") -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.data.worlds import departures

    settings = Settings(
        home=Path(home),
        kafka=KafkaSettings(bootstrap=bootstrap),
        ingest=IngestSettings(batch_rows=40, trigger_s=0.02),
    )
    left = times

    def on_point(here: str) -> None:
        nonlocal left
        left -= here == point
        if here == point and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    lake = Lakehouse(settings)
    try:
        if mode == "service":
            service = IngestService(lake, settings, EventBus(), readers=InlineReaders, on_point=on_point)
            signal.signal(signal.SIGTERM, lambda *_: service.stop())
            service.feed([departures()])
        else:
            ingest_once(
                lake, departures(), settings, EventBus(), executor=InlineExecutor(), on_point=on_point
            )
    except RayplatError as error:
        sys.stderr.write(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:]))
