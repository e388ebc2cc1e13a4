"""Vectors from a declaration to an answer: ingested, read as of a time, materialized, served to the bit."""

import json
import math
import random
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.core.events import EventBus
from rayplat.core.project.validate import validate
from rayplat.core.settings import FilesSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.ingest import ingest_once
from rayplat.features.distributed.historical import Asking, answered
from rayplat.features.distributed.layout import Limits
from rayplat.features.distributed.tasks import Here
from rayplat.features.materialize import materialize
from rayplat.features.offline import get_historical_features
from rayplat.features.online.opening import open_online
from rayplat.features.requests import request_frame
from rayplat.features.serving import get_online_features

LENGTH = 5
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
LATER = BEGIN + timedelta(days=30)


def declared(folder: Path, length: int = LENGTH) -> tuple[Any, Any, list[Any]]:
    project = rp.Project("texts", owner="ops@example.com")
    texts = project.table(
        "raw.texts",
        key="id",
        event_time="at",
        columns={
            "id": rp.Column("string", nullable=False),
            "at": rp.Column("timestamp", nullable=False),
            "author": rp.Column("string"),
            "embedding": rp.Column(f"vector({length})", description="what the text means"),
        },
        source=rp.Files(str(folder), format="ndjson"),
    )
    last = project.feature_view(
        "last",
        source=texts,
        entity="author",
        features={
            "embedding": pl.col("embedding"),
            "first": pl.col("embedding").list.get(0),
            "length": pl.col("embedding").list.len(),
        },
        defaults={"first": 0.0},
    )
    return project, texts, [last]


def world(seed: int, count: int = 60) -> list[dict[str, Any]]:
    drawn = np.random.default_rng(seed)
    made: list[dict[str, Any]] = []
    for i in range(count):
        vector = (drawn.normal(size=LENGTH) * 10.0 ** drawn.integers(-40, 38)).tolist()
        made.append(
            {
                "id": f"t{i}",
                "at": f"{BEGIN + timedelta(hours=i):%Y-%m-%dT%H:%M:%SZ}",
                "author": f"a{drawn.integers(7)}",
                "embedding": None if i % 9 == 4 else vector,
            }
        )
    return made


BAD: dict[str, tuple[list[Any], str]] = {
    "short": ([1.0, 2.0], f"embedding has 2 elements, not {LENGTH}"),
    "empty": ([], f"embedding has 0 elements, not {LENGTH}"),
    "long": ([0.5] * 6, f"embedding has 6 elements, not {LENGTH}"),
    "null": ([1.0, None, 2.0, 3.0, 4.0], "embedding has an element that is null"),
}


def arrive(folder: Path, records: list[dict[str, Any]]) -> None:
    folder.mkdir()
    (folder / "one.ndjson").write_text("".join(json.dumps(record) + "\n" for record in records))


def expected(records: list[dict[str, Any]], author: str, at: datetime) -> list[float] | None:
    """The last vector of an author up to a time, in float32."""
    found = [
        r
        for r in records
        if r["author"] == author and r["id"].startswith("t") and datetime.fromisoformat(r["at"]) <= at
    ]
    vector = found[-1]["embedding"] if found else None
    return None if vector is None else np.asarray(vector, np.float32).tolist()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", files=FilesSettings(settle_s=0))


def test_a_vector_is_the_same_to_the_bit_from_its_file_to_its_answer(
    settings: Settings, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    folder = tmp_path / "arriving"
    project, texts, views = declared(folder)
    assert [fault.what for fault in validate(project)] == []
    records = world(seed)
    bad = [{**records[-1], "id": name, "embedding": vector} for name, (vector, _) in BAD.items()]
    dead = [{**records[-1], "id": "dead", "embedding": value} for value in (["x"], [True], 7, "[]", [1e300])]
    arrive(folder, [*records, *bad, *dead])
    with closing(Lakehouse(settings)) as lake:
        report = ingest_once(lake, texts, settings, EventBus(), executor=InlineExecutor())
        assert (report.rows, report.quarantined, report.dead) == (len(records), len(bad), len(dead))
        aside = lake.table("quarantine.raw_texts").read().to_pylist()
        told = {orjson.loads(row["raw"])["id"]: row["reason"] for row in aside}
        assert told == {name: reason for name, (_, reason) in BAD.items()}

        moments = [BEGIN + timedelta(hours=h, minutes=30) for h in (0, 11, 35, 59)]
        asked = [(f"a{a}", at) for at in moments for a in range(8)]
        rows = pl.DataFrame(asked, schema={"author": pl.String, "t": pl.Datetime("us", "UTC")}, orient="row")
        snapshots = {texts.name: lake.table(texts.name).snapshot_id()}
        wanted = [expected(records, author, at) for author, at in asked]
        for few in (0, 1_000_000):
            made = get_historical_features(rows, "t", views, lake, snapshots, few=few)
            assert made["last__embedding"].dtype == pl.List(pl.Float32)
            assert made["last__embedding"].to_list() == wanted
            assert made["last__first"].to_list() == [0.0 if v is None else v[0] for v in wanted]
        whole = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        limits = Limits(shared=0, events=20, questions=15)
        spread_out = Asking("t", views, lake, snapshots, limits)
        spread = answered(Here(2), [whole], [whole.num_rows], spread_out)
        assert pl.DataFrame(pa.concat_tables(spread))["last__embedding"].to_list() == wanted
        online = open_online(settings)
        try:
            materialize(lake, online, views, step_rows=13)
            now = get_online_features(online, views, [{"author": f"a{a}"} for a in range(8)], LATER)
        finally:
            online.close()
        of_now = get_historical_features(
            pl.DataFrame({"author": [f"a{a}" for a in range(8)], "t": [LATER] * 8}).with_columns(
                pl.col("t").cast(pl.Datetime("us", "UTC"))
            ),
            "t",
            views,
            lake,
            snapshots,
        ).select(now.frame.columns)
        assert now.frame.schema == of_now.schema
        assert now.frame.equals(of_now)


def asking(value: Any) -> pl.DataFrame:
    project = rp.Project("texts", owner="ops@example.com")
    columns = {"id": "string", "query": "vector(2)"}
    asks = project.table("raw.asks", key="id", columns=columns)
    view = project.request_view("asked", source=asks, features={"query": pl.col("query")})
    return request_frame([view], [{"query": value}], BEGIN)


def test_a_request_gives_a_list_of_so_many_numbers() -> None:
    assert asking([1, 2.5])["query"].to_list() == [[1.0, 2.5]]
    assert asking(None)["query"].to_list() == [None]
    for wrong in ([1.0], [1.0] * 3, [1.0, None], [1.0, True], [1.0, math.nan], [1.0, 1e39], "[1, 2]"):
        with pytest.raises(UserError, match=r"not a vector\(2\)"):
            asking(wrong)
