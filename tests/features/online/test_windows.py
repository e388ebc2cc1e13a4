"""Windows from tiles give the bits of the offline engine, whatever came late, twice or out of order."""

import random
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from rayplat.core.project.window import tumbling, window
from rayplat.features.online import window_answers
from rayplat.features.online.apply import write_rows
from rayplat.features.online.kept import encode_schema
from rayplat.features.online.keys import SLACK
from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.store import Progress
from rayplat.features.online.tiles import WIDTHS, width_for
from rayplat.features.plan import plan
from rayplat.features.point_in_time import join, needed
from rayplat.features.serving import get_online_features
from tests.features.oracle import Event
from tests.features.worlds import asking, events, frame, hour, project, source_table


def every_kind():
    """All kinds, shapes of windows, a filter, and values that are texts, booleans and times."""
    features = {}
    for name, shape in (
        ("6h", window("6h")),
        ("30h", window("30h")),
        ("hop", window("4h", every="45m")),
        ("day", tumbling("1d")),
        ("big", window("30h").filter(pl.col("x") > 1)),
    ):
        features |= {
            f"sum_{name}": shape.sum("x"),
            f"mean_{name}": shape.mean(pl.col("x") / 3),
            f"std_{name}": shape.stddev("x"),
            f"count_{name}": shape.count("x"),
            f"last_{name}": shape.last("x"),
            f"q_{name}": shape.quantile("x", 0.9),
        }
    w = window("30h")
    features |= {
        "min": w.min("x"),
        "max": w.max("x"),
        "first": w.first("entity"),
        "texts": w.nunique(pl.col("x").cast(pl.String)),
        "whole": w.sum(pl.col("x").fill_nan(None).cast(pl.Int64, strict=False)),
        "time": w.max("known"),
        "flag": w.last(pl.col("x") > 0),
    }
    return project().feature_view("kinds", source=source_table(), entity="entity", features=features)


def world(rng: np.random.Generator, count: int, entities: str = "ab") -> list[Event]:
    values = rng.normal(size=count) * 10.0 ** rng.integers(-6, 7, count)
    odd = [None, float("nan"), float("inf"), -0.0, 1e300]
    made = []
    for i, value in enumerate(values.tolist()):
        event = float(rng.choice([rng.random() * 60, rng.integers(0, 60), 20 + rng.random() * 2]))
        late = float(rng.choice([0, 0, 0, rng.random() * 10, 24]))
        x = odd[int(rng.integers(len(odd)))] if rng.random() < 0.05 else value
        entity = entities[int(rng.integers(len(entities)))]
        made.append(Event(entity, hour(event), hour(event + late), i % 3, i, x))
    return made


def tell(store, view, rows, seed, steps):
    """Rows in steps by the time at which they are known, parts of them twice and some much later."""
    rng = random.Random(seed)
    prepared, reached = plan(view), None
    source = needed(rows, prepared).sort("known")
    cuts = sorted(rng.randrange(source.height + 1) for _ in range(steps))
    chunks = [source[a:b] for a, b in zip([0, *cuts], [*cuts, source.height], strict=True)]
    chunks += [chunk.sample(fraction=0.3, seed=seed) for chunk in chunks[:3]]
    rng.shuffle(chunks)
    for number, chunk in enumerate([*chunks, source.sample(fraction=0.1, seed=seed)]):
        done = Progress(number, {"0": number}, encode_schema(source))
        write_rows(store, prepared, chunk, done, expected=reached)
        reached = done


@pytest.mark.parametrize("steps", [0, 12])
def test_every_kind_is_what_the_offline_engine_gives_to_the_bit(tmp_path, steps):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    view, store = every_kind(), LmdbOnlineStore(f"lmdb:///{tmp_path}/o")
    rows = frame(world(rng, 1500))
    tell(store, view, rows, seed, steps)
    newest = rows.get_column("known").max()
    times = [newest - SLACK + timedelta(hours=float(h)) for h in (0, *(rng.random(6) * 30), 24, 60)]
    for at in times:
        questions = [("a", at), ("b", at), (None, at), ("never", at)]
        offline = join(asking(questions), "at", view, rows).select(view.names)
        online = get_online_features(store, [view], [{"entity": e} for e, _ in questions], at)
        assert offline.schema == online.frame.schema
        different = [n for n in view.names if not offline[n].equals(online.frame[n], null_equal=True)]
        assert different == [], (at, [(offline[n].to_list(), online.frame[n].to_list()) for n in different])
    store.close()


def test_a_row_that_comes_twice_counts_once_and_a_late_one_corrects_its_tile(tmp_path):
    view = project().feature_view(
        "n", source=source_table(), entity="entity", features={"sum": window("10h").sum("x")}
    )
    store = LmdbOnlineStore(f"lmdb:///{tmp_path}/o")
    rows = events(*(("a", 1 + i / 1000, 1 + i / 1000, 1.0) for i in range(100)), ("a", 9, 9, 1.0))
    late = Event("a", hour(1.0005), hour(9.5), 0, 500, 7.0)
    schema = encode_schema(needed(frame(rows), plan(view)))
    reached = None
    for step, batch in enumerate((rows, rows[20:50], [late], [late, *rows[:1]])):
        done = Progress(step, {}, schema)
        write_rows(store, plan(view), needed(frame(batch), plan(view)), done, expected=reached)
        reached = done

    def total(at):
        return get_online_features(store, [view], [{"entity": "a"}], hour(at)).frame.item()

    assert [total(at) for at in (9, 9.49, 9.5, 10.9995, 11.5)] == [101, 101, 108, 108, 1]
    # Within the tile: the question splits it.
    assert total(1.05) == 51
    store.close()


def test_the_cost_of_a_read_grows_with_tiles_and_not_with_rows(tmp_path, monkeypatch):
    view = project().feature_view(
        "n", source=source_table(), entity="entity", features={"sum": window("32h").sum("x")}
    )
    counted = []
    for rows in (4_000, 40_000):
        store = LmdbOnlineStore(f"lmdb:///{tmp_path}/{rows}")
        hours = np.linspace(0, 40, rows)
        dense = pl.DataFrame(
            {
                "entity": ["a"] * rows,
                "event": [hour(h) for h in hours],
                "known": [hour(h) for h in hours],
                "x": [1.0] * rows,
                "_partition": [0] * rows,
                "_offset": list(range(rows)),
            },
            schema=frame([]).schema,
        )
        source = needed(dense, plan(view))
        write_rows(store, plan(view), source, Progress(1, {}, encode_schema(source)), expected=None)
        read = {"tiles": 0, "rows": 0}

        class Counting:
            def __init__(self, reader):
                self._reader, self.progress, self.heads = reader, reader.progress, reader.heads

            def parts(self, name, wanted, read=read):
                found = self._reader.parts(name, wanted)
                for parts in found:
                    for key, _ in parts:
                        read["tiles" if key[:1] == b"t" else "rows"] += 1
                return found

        class Counted:
            def read(self, reading, store=store):
                return store.read(lambda reader: reading(Counting(reader)))

        answered = get_online_features(Counted(), [view], [{"entity": "a"}], hour(39.99))
        expected = ((hours > 39.99 - 32) & (hours <= 39.99)).sum()
        assert answered.frame.item() == expected
        counted.append(read)
        store.close()
    # 32 hours in tiles of an hour: 31 or 32 whole ones, and rows of the two that are cut.
    assert all(31 <= read["tiles"] <= 32 for read in counted)
    assert counted[0]["rows"] <= 4_000 / 40 * 2
    assert counted[1]["rows"] <= 40_000 / 40 * 2


def test_widths():
    hours = 3_600_000_000
    assert [width_for(n * hours) // 1_000_000 for n in (1, 3, 24, 24 * 7)] == [60, 300, 1800, 7200]
    assert width_for(1_000_000) == WIDTHS[0]
    assert all(32 <= n * hours / width_for(n * hours) <= 96 for n in range(1, 700))


def test_bounds_of_windows():
    hop = plan(every_kind()).windows[12]
    assert (hop.length_us, hop.every_us) == (4 * 3_600_000_000, 45 * 60_000_000)
    at = 10 * 3_600_000_000
    assert window_answers.bounds(hop, at) == (int(5.75 * 3.6e9), int(9.75 * 3.6e9) - 1)
