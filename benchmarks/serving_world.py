"""The servers of benchmarks/serving.py, one process each: prints its port, and answers until its input ends.

    serving_world.py KIND [MODEL] [--auth] [--features] [--canary] [--shadow]

`rayplat` is the front with the prediction log on disk (fdatasync before the answer), `rayplat_process` with a
log that survives the process only (write before the answer, no flush), `rayplat_bare` without a log;
`fastapi` is uvicorn with FastAPI, which reads the same body and logs nothing. MODEL is `noop`, `sleep` (1 ms,
whatever the number of rows) or `mlp` (two hidden layers of 64). With `--auth`, callers need a token; with
`--features`, a feature comes from the online store beside the one of the request; with `--canary` another
version answers a tenth; with `--shadow` another one is asked all, too.
"""

import asyncio
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rayplat.serve.ready import Ready

MOST_OF_SLEEP = 8
"""How many requests a batch of the sleeping model has at most."""

PROJECT = """
import polars as pl
import rayplat as rp

shop = rp.Project("shop", owner="bench@example.com")
prices = shop.table(
    "raw.prices",
    key=("shop", "seen"),
    event_time="seen",
    columns={"shop": "string", "seen": "timestamp", "price": "float64"},
    source=rp.Kafka("prices", partitions=1),
)
visits = shop.table(
    "raw.visits",
    key="visit_id",
    event_time="asked",
    columns={"visit_id": "int64", "asked": "timestamp", "shop": "string", "amount": "float64"},
    source=rp.Kafka("visits", partitions=1),
)
shop.feature_view("price", source=prices, entity="shop", features={"last": pl.col("price")})
shop.request_view("visit", source=visits, features={"amount": pl.col("amount")})
"""


class NoLog:
    """A log that keeps nothing."""

    def submit(self, records: Sequence[Any]) -> "Future[None]":
        """Done at once."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """Nothing is open."""


def lookup(instances: Sequence[Any], _at: datetime) -> Ready:
    """The features of a question are its own column; no store is asked."""
    return Ready([{"visit__amount": one["amount"]} for one in instances], [{}] * len(instances))


def model(kind: str, inputs: int) -> Callable[[Any], Any]:
    """A network."""
    import torch

    if kind == "mlp":
        torch.manual_seed(1)
        layers = torch.nn
        made: Callable[[Any], Any] = layers.Sequential(
            *(layers.Linear(inputs, 64), layers.ReLU(), layers.Linear(64, 64), layers.ReLU()),
            layers.Linear(64, 1),
        ).eval()
        return made
    if kind == "sleep":
        return lambda x: (time.sleep(0.001), x[:, 0])[1]
    return lambda x: x[:, 0]


def features(home: Path) -> Callable[..., Any]:
    """The lookup of a platform with an online store of 1,000 entities."""
    import pyarrow as pa

    from rayplat.core.project.load import load_project
    from rayplat.core.settings import Settings
    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.data.lakehouse.commit import FencedCommitter
    from rayplat.features.materialize import materialize
    from rayplat.features.online.opening import open_online
    from rayplat.features.serving import get_online_features
    from rayplat.serve.ready import ReadyFeatures

    (home / "project.py").write_text(PROJECT)
    project = load_project(str(home))
    settings = Settings(home=home)
    lake = Lakehouse(settings)
    kept = lake.ensure(next(t for t in project.tables if t.name == "raw.prices"))
    count = 1000
    seen = [datetime.now(UTC) - timedelta(minutes=5)] * count
    columns = {"shop": [f"shop{i}" for i in range(count)], "seen": seen, "price": [0.5] * count}
    system = {"_partition": [0] * count, "_offset": list(range(count))}
    table = pa.table({f.name: pa.array({**columns, **system}[f.name], f.type) for f in kept.schema()})
    committer = FencedCommitter(lake, "raw.prices", "kafka")
    committer.commit(kept.write_files(table), committer.committed(), {"0": count})
    online = open_online(settings)
    views = [v for v in project.views if v.name in ("price", "visit")]
    materialize(lake, online, views, None)
    return ReadyFeatures(online, views, lambda asked, at: get_online_features(online, views, asked, at))


def admission(home: Path) -> tuple[Any, str]:
    """The admission of a platform with tokens, and a token."""
    from rayplat.core.settings import Settings
    from rayplat.serve.admission.admission import open_admission
    from rayplat.serve.admission.limits import Limits
    from rayplat.serve.admission.tokens import TokenStore

    settings = Settings.model_validate({"home": home, "serve": {"auth": "token"}})
    store = TokenStore(settings)
    limits = Limits(rate=1e6, burst=1e6)
    token = store.create("bench", ("buys:predict",), timedelta(days=1), limits=limits).token
    store.close()
    return open_admission(settings), token


def rayplat(kind: str, network: str, on: frozenset[str]) -> None:
    """The front."""
    import torch

    from rayplat.core.project.serving import Traffic
    from rayplat.core.project.table import Column
    from rayplat.features.server.process import Where
    from rayplat.features.server.steady import settle
    from rayplat.serve.admission.admission import OpenDoor
    from rayplat.serve.arms.opening import Versions, open_arms
    from rayplat.serve.front.listener import Front, Fronted
    from rayplat.serve.log.local import LocalLog
    from rayplat.serve.outbox import CANARY, CHAMPION, SHADOW
    from rayplat.serve.predictor import Predictor
    from rayplat.serve.request import RequestForm
    from rayplat.serve.served import Served

    torch.set_num_threads(1)
    columns = {"shop": Column("string"), "amount": Column("float64")}
    form = RequestForm("raw.visits", columns, ("amount",), None)
    inputs = ["price__last", "visit__amount"] if "features" in on else ["visit__amount"]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd())))
        door, token = admission(home) if "auth" in on else (OpenDoor(), "")
        looked = features(home) if "features" in on else lookup
        sync = "disk" if kind == "rayplat" else "process"
        log: Any = NoLog() if kind == "rayplat_bare" else LocalLog(home / "log", sync=sync)  # type: ignore[arg-type]

        def version(number: int, arm: str | None) -> Predictor:
            asked = model(network, len(inputs))
            return Predictor(
                endpoint="buys",
                model="buys",
                version=number,
                inputs=inputs,
                network=asked,
                lookup=looked,
                arm=arm,
                reads=tuple(inputs),
            )

        canary = version(2, CANARY) if "canary" in on else None
        shadow = version(2, SHADOW) if "shadow" in on else None
        versions = Versions(version(1, CHAMPION), canary=canary, shadow=shadow)
        shares = Traffic(canary=0.1 if canary else 0.0, shadow=1.0 if shadow else 0.0)
        opened = open_arms(versions, shares, lambda: log)
        stack.callback(opened.close)
        batch = {"batch": MOST_OF_SLEEP} if network == "sleep" else {}
        front = Front(Fronted(Served(opened.answering, form, {}), door, log, **batch), Where())
        settle()  # as a replica does
        front.start()
        print(front.port, token, flush=True)
        sys.stdin.read()
        front.close()
        door.close()
        log.close()


def fastapi() -> None:
    """uvicorn with FastAPI."""
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
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    if words[0] == "fastapi":
        fastapi()
    else:
        options = frozenset(word[2:] for word in sys.argv[1:] if word.startswith("--"))
        rayplat(words[0], (words[1:] or ["noop"])[0], options)
