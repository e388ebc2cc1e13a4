"""Where the time of one prediction goes, by layer: each layer called again and again, in this process alone.

    python benchmarks/serving_layers.py

Knows the layers of the front; it does not know sockets, whose share is what is left of the median that
benchmarks/serving.py measures. A layer alone in a loop has warm caches: their sum is under
the whole.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import serving
import serving_world

ROUNDS, CALLS = 9, 1000


def microseconds(call: Callable[[], Any]) -> float:
    """What a call takes, the least of some rounds."""
    least = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(CALLS):
            call()
        least = min(least, (time.perf_counter() - begin) / CALLS)
    return least * 1e6


class Discarded:
    """A transport that sends nothing."""

    def write(self, data: bytes) -> None:
        """Nothing is sent."""

    def resume_reading(self) -> None:
        """Nothing was paused."""


class Quick:
    """A pace that no stretched sample makes slow: the loop does not turn while a layer is measured."""

    slow = False

    def took(self, seconds: float, requests: int) -> None:
        """Nothing is learnt."""


async def layers(network: str) -> dict[str, float]:
    """Microseconds by layer."""
    import torch

    from rayplat.core.project.table import Column
    from rayplat.serve.admission.admission import OpenDoor
    from rayplat.serve.front.connection import Connection, Shared
    from rayplat.serve.front.door import Door
    from rayplat.serve.front.plain import PlainExchange
    from rayplat.serve.front.turn import Turn
    from rayplat.serve.lanes import Lanes
    from rayplat.serve.log.local import LocalLog
    from rayplat.serve.predictor import Asked, Predictor
    from rayplat.serve.ready import assembled_rows
    from rayplat.serve.request import RequestForm
    from rayplat.serve.served import Served
    from rayplat.serve.stages import stages_of

    torch.set_num_threads(1)
    columns = {"shop": Column("string"), "amount": Column("float64")}
    form = RequestForm("raw.visits", columns, ("amount",), None)
    predictor = Predictor(
        endpoint="buys",
        model="buys",
        version=1,
        inputs=["visit__amount"],
        network=serving_world.model(network, 1),
        lookup=serving_world.lookup,
    )
    served, door = Served(predictor, form, {}), OpenDoor()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        log = LocalLog(Path(folder), sync="process")
        turn = Turn(form, predictor.answer, log, door.waited, stages=stages_of("buys"))
        shared = Shared(Door(served, door, turn, lambda: True).answer)
        connection = Connection(shared)
        connection.connection_made(Discarded())  # type: ignore[arg-type]
        request = serving.questions("")[0]
        head, body = request.split(b"\r\n\r\n")
        turn._pace = Quick()  # type: ignore[assignment]
        for _ in range(500):
            connection.data_received(request)
        now = datetime.now(UTC)
        question = form.parse(body, now)
        ready = serving_world.lookup(question.instances, now)
        _, x = assembled_rows(ready.rows, predictor.inputs)
        (answer,) = predictor.answer([Asked(question, now, time.perf_counter())])
        exchange = PlainExchange(served)
        lanes = Lanes(serving_world.model(network, 1), 1, "buys")
        found = {
            "head read (known by its bytes)": microseconds(lambda: shared.heads.read(head + b"\r\n\r\n")),
            "admission (no token)": microseconds(lambda: door.check(None, "buys", 0, time.time())),
            "body read and checked": microseconds(lambda: form.parse(body, now)),
            "features put together": microseconds(
                lambda: assembled_rows(serving_world.lookup(question.instances, now).rows, predictor.inputs)
            ),
            f"model ({network})": microseconds(lambda: lanes.probabilities(x)),
            "log (write, no flush)": microseconds(lambda: log.submit(answer.records)),
            "answer as JSON": microseconds(lambda: exchange.reply(answer).wire(close=False)),
        }
        found["all of a request but sockets"] = whole = microseconds(
            lambda: connection.data_received(request)
        )
        rest = whole - sum(value for name, value in found.items() if not name.startswith("all"))
        found["of it: record, batch, metrics, cold caches"] = rest
        turn.close()
        log.close()
    return found


def main() -> None:
    """Print the table."""
    for network in ("noop", "mlp"):
        print(f"| layer, {network} | us |\n|---|---|")
        for name, value in asyncio.run(layers(network)).items():
            print(f"| {name} | {value:.1f} |")
        print()


if __name__ == "__main__":
    main()
