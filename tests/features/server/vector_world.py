"""A project whose feature is a vector, and a server over it in a process of its own: run as a script."""

import sys
from pathlib import Path

import polars as pl

import rayplat as rp
from rayplat.core.settings import Settings
from rayplat.features.materialize import materialize
from rayplat.features.online.opening import open_online
from rayplat.features.server.process import Where, serve
from tests.features.fakes import FakeLake
from tests.features.worlds import hour

project = rp.Project("vectors", owner="tests@example.com")
TEXTS = project.table(
    "raw.texts",
    columns={"author": "string", "at": "timestamp", "embedding": "vector(3)"},
    key=("author", "at"),
    event_time="at",
    source=rp.Kafka("texts"),
)
LAST = project.feature_view(
    "last", source=TEXTS, entity="author", features={"embedding": pl.col("embedding")}
)
VECTORS = {"a": [0.1, -0.0, 3.4e38], "b": None}


def fill(home: Path) -> pl.DataFrame:
    """Materialize the vectors of two authors; they come back as they were told."""
    told = pl.DataFrame(
        {
            "author": list(VECTORS),
            "at": [hour(1), hour(2)],
            "embedding": pl.Series(list(VECTORS.values()), dtype=pl.List(pl.Float32)),
            "_partition": pl.Series([0, 0], dtype=pl.Int32),
            "_offset": pl.Series([0, 1], dtype=pl.Int64),
        }
    )
    lake = FakeLake()
    lake.tell("raw.texts", told)
    online = open_online(Settings(home=home))
    materialize(lake, online, [LAST])
    online.close()
    return told


if __name__ == "__main__":
    serve(
        Settings(home=Path(sys.argv[1])),
        __file__,
        Where(port=int(sys.argv[2]), workers=int(sys.argv[3])),
        lambda url: print(url, flush=True),
    )
