"""The servers of benchmarks/serving.py, one process each: prints its port, and answers until its input ends.

`rayplat` is the front with the prediction log on disk (fdatasync before the answer), `rayplat_process` with a
log that survives the process only, `rayplat_bare` without a log; `fastapi` is uvicorn with FastAPI, which
reads the same body and logs nothing. The model is the same no-op.
"""

import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any


class NoLog:
    """A log that keeps nothing."""

    def submit(self, records: Sequence[Any]) -> "Future[None]":
        """Done at once."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """Nothing is open."""


class Found:
    """The features of a question: its own column."""

    def __init__(self, instances: Sequence[Any]) -> None:
        import polars as pl

        self.frame = pl.DataFrame({"amount": [i["amount"] for i in instances]})
        self.provenance: list[dict[str, Any]] = [{}] * len(instances)


def lookup(instances: Sequence[Any], _at: datetime) -> Found:
    """No store is asked."""
    return Found(instances)


def rayplat(kind: str) -> None:
    """The front."""
    import torch

    from rayplat.core.project.table import Column
    from rayplat.features.server.process import Where
    from rayplat.serve.admission.admission import OpenDoor
    from rayplat.serve.front.listener import Front, Fronted
    from rayplat.serve.log.local import LocalLog
    from rayplat.serve.predictor import Predictor
    from rayplat.serve.request import RequestForm
    from rayplat.serve.served import Served

    torch.set_num_threads(1)
    form = RequestForm("raw.visits", {"shop": Column("string"), "amount": Column("float64")}, (), None)
    predictor = Predictor(
        endpoint="buys",
        model="buys",
        version=1,
        inputs=["amount"],
        network=lambda x: x[:, 0],
        lookup=lookup,
    )
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        sync = "disk" if kind == "rayplat" else "process"
        log = NoLog() if kind == "rayplat_bare" else LocalLog(Path(folder), sync=sync)  # type: ignore[arg-type]
        front = Front(Fronted(Served(predictor, form, {}), OpenDoor(), log), Where())
        front.start()
        print(front.port, flush=True)
        sys.stdin.read()
        front.close()
        log.close()


def fastapi() -> None:
    """uvicorn with FastAPI."""
    import asyncio
    import threading

    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Instance(BaseModel):
        shop: str | None = None
        amount: float | None = None

    class Body(BaseModel):
        instances: list[Instance]

    app = FastAPI()

    @app.post("/v1/endpoints/buys/predict")
    async def predict(body: Body) -> dict[str, Any]:
        return {"predictions": [{"probability": one.amount} for one in body.instances]}

    async def run() -> None:
        config = uvicorn.Config(app, port=0, log_level="critical", access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), setattr(server, "should_exit", True))).start()
        await task

    asyncio.run(run())


if __name__ == "__main__":
    fastapi() if sys.argv[1] == "fastapi" else rayplat(sys.argv[1])
