"""A standby: a process that has everything imported, and becomes a replica when it is told to.

Run by the keeper: `python -m rayplat.serve.replicas.standby`. On its standard input it is told lines of JSON:
`load` with a spec (load the model, and wait), `listen` (sit down at the keeper). It ends, with every answer
that it has begun, when the input is closed or the keeper says so. Knows this order; it does not know why it
is needed.
"""

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import orjson

from rayplat.core.telemetry import configure_logging, get_logger
from rayplat.features.server.steady import settle
from rayplat.serve.replica import FrontAlone
from rayplat.serve.spec import EndpointSpec

READY = b"ready\n"
_READ = 1 << 16


def warm_up() -> None:
    """Import what a replica needs, so that it is there when the model is to be loaded."""
    import numpy as np
    import polars as pl
    import torch

    torch.set_num_threads(1)
    pl.DataFrame({"a": [1.0]}).select(pl.col("a") * 2).to_numpy()
    torch.nn.Linear(1, 1)(torch.from_numpy(np.zeros((1, 1), np.float32)))


def main() -> None:
    """Stand by."""
    warm_up()
    settle()  # not when a model is to be loaded: somebody waits then
    ended = threading.Event()
    told: list[FrontAlone] = []
    failed: list[Exception] = []
    threading.Thread(target=_listen_to_keeper, args=(told, failed, ended), daemon=True).start()
    ended.wait()
    for one in told:
        one.close()
    if failed:
        raise SystemExit(1)


def _listen_to_keeper(told: list[FrontAlone], failed: list[Exception], ended: threading.Event) -> None:
    try:
        _say(READY)
        for line in _lines(sys.stdin.fileno()):
            _carry_out(orjson.loads(line), told, ended)
    # Whatever keeps it from being a replica, it is of no use any more.
    except Exception as error:
        failed.append(error)
        get_logger("serve.replicas").error("a standby fails", exc_info=error)
    finally:
        ended.set()


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines as they come. Not by a buffered reader: its lock, held by a waiting thread, aborts the exit."""
    begun = b""
    while data := os.read(descriptor, _READ):
        *whole, begun = (begun + data).split(b"\n")
        yield from whole


def _carry_out(order: dict[str, Any], told: list[FrontAlone], ended: threading.Event) -> None:
    if "load" in order:
        spec = EndpointSpec.from_json(order["load"])
        configure_logging(spec.settings.log)
        told.append(FrontAlone(spec, ended.set))
        _say(READY)
    elif "listen" in order:
        told[-1].start()


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
