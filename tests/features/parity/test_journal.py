"""The journal: its bytes, its files, and what becomes of them in the lakehouse."""

import base64
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import UnavailableError
from rayplat.features.instants import to_micros
from rayplat.features.online.kept import encode_schema
from rayplat.features.online.layout import Layout
from rayplat.features.parity import vectors
from rayplat.features.parity.backlog import Backlog
from rayplat.features.parity.journal import FRAME, SUFFIX, VECTOR_BYTES, WHOLE, WHOLLY, About, Entry, Journal
from rayplat.features.parity.journal_rows import read_journal, tables_of
from rayplat.features.parity.log import FeatureLog
from rayplat.features.parity.spool import recover
from rayplat.features.parity.vectors import VECTORS, FeatureVectors, decode_column, decode_rows
from tests.features.fakes import FakeLake

ROWS = pl.DataFrame(
    {"x": [0.1, math.nan, None], "s": ["a", "\n", None], "b": [True, None, False]},
    schema={"x": pl.Float64, "s": pl.String, "b": pl.Boolean},
)
LAYOUT = Layout(ROWS.schema)
KEYS = [b'["a"]', b'["line\\nfeed"]', b'["c"]']


def about(standing: bytes) -> About:
    schema = base64.b64encode(encode_schema(ROWS)).decode()
    names = tuple(f"v__{name}" for name in ROWS.columns)
    return About("v", "digest", ("who",), names, schema, int(standing), {"0": int(standing)})


@dataclass
class Known:
    """Answers that stand at places."""

    standing: bytes
    names: list[bytes]
    rows: list[bytes]


def known(standing: bytes = b"1", keys=KEYS, values=None) -> Known:
    return Known(standing, list(keys), values or LAYOUT.encode(ROWS))


def entry(standing: bytes = b"1", at: int = 5, keys=KEYS, values=None) -> Entry:
    return told(known(standing, keys, values), range(len(keys)), at)


def told(known: Known, places, at: int = 5, view: str = "v", by=about) -> Entry:
    return Entry(view, by, at, known, places)


def rows_of(data, name, **given):
    found = pa.concat_tables([vectors.SCHEMA.empty_table(), *tables_of(data, name, **given)])
    return found.sort_by("vector_id")


def files(folder):
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_values_come_back_to_the_bit(tmp_path):
    journal = Journal(tmp_path)
    journal.write([entry()])
    journal.roll()
    (path,) = files(tmp_path)
    rows = rows_of(path.read_bytes(), path.name).to_pylist()
    assert [orjson.loads(row["request"]) for row in rows] == [
        {"who": "a"},
        {"who": "line\nfeed"},
        {"who": "c"},
    ]
    told = decode_rows([row["features"] for row in rows])
    for name, dtype in ROWS.schema.items():
        back = decode_column(name, [features[f"v__{name}"] for features in told], dtype)
        assert back is not None
        assert back.equals(ROWS[name])
    assert orjson.loads(rows[0]["views"]) == {
        "v": {"digest": "digest", "snapshot_id": 1, "offsets": {"0": 1}}
    }
    assert [row["vector_id"] for row in rows] == [f"{path.stem}-{n:06d}" for n in range(3)]


def test_an_entity_of_which_nothing_is_known_is_null(tmp_path):
    journal = Journal(tmp_path)
    journal.write([entry(keys=KEYS[:2], values=[b"", LAYOUT.encode(ROWS)[0]])])
    journal.roll()
    (path,) = files(tmp_path)
    features = [orjson.loads(text) for text in rows_of(path.read_bytes(), path.name)["features"].to_pylist()]
    assert features[0] == {"v__x": None, "v__s": None, "v__b": None}
    assert features[1] == {"v__x": 0.1, "v__s": "a", "v__b": True}


def test_answers_that_an_older_server_has_logged_are_not_lost(tmp_path):
    journal = Journal(tmp_path)
    journal.write([entry()])
    journal.roll()
    (path,) = files(tmp_path)
    data = path.read_bytes()
    head, _ = FRAME.unpack_from(data)
    shared, later = data[: 4 + head], data[4 + head :]
    values, names = LAYOUT.encode(ROWS)[:2], b"\n".join(KEYS[:2])
    body = names + struct.pack("<2I", *map(len, values)) + b"".join(values)
    whole = WHOLLY.pack(WHOLLY.size - 4 + len(body), WHOLE, 0, 7, 2, len(names)) + body
    rows = rows_of(shared + whole + whole, "a.answers").to_pylist()
    assert [row["request"] for row in rows] == ['{"who":"a"}', '{"who":"line\\nfeed"}'] * 2
    new = rows_of(shared + later, "a.answers").to_pylist()
    assert [row["features"] for row in rows[:2]] == [row["features"] for row in new[:2]]
    assert [(row["vector_id"], to_micros(row["at"])) for row in rows] == [(f"a-{n:06d}", 7) for n in range(4)]


def test_what_is_shared_stands_once_a_file_and_standing(tmp_path):
    journal = Journal(tmp_path)
    for standing in (b"1", b"1", b"2", b"2", b"1"):
        journal.write([entry(standing), entry(standing)])
    journal.roll()
    journal.write([entry(b"1")])
    journal.roll()
    first, second = (read_journal(path.read_bytes()) for path in files(tmp_path))
    assert [one.snapshot_id for one in first.shared] == [1, 2, 1]
    assert [answer.shared for answer in first.answers] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert [one.snapshot_id for one in second.shared] == [1]


def test_values_stand_once_a_file_and_every_answer_has_them(tmp_path):
    journal = Journal(tmp_path)
    first, other = known(), known(b"2", KEYS[:1])
    journal.write([told(first, [0, 1, 2]), told(first, [2, 0]), told(other, [0, 0])])
    first.names.append(b'["late"]')
    first.rows.append(b"")
    journal.write([told(other, [0]), told(first, [3, 0])])
    journal.roll()
    journal.write([told(first, [1])])
    journal.roll()
    one, second = files(tmp_path)
    read = read_journal(one.read_bytes())
    assert [values.names for values in read.values] == [KEYS, KEYS[:1], [b'["late"]', KEYS[0]]]
    places = [answer.places.tolist() for answer in read.answers]
    assert places == [[0, 1, 2], [2, 0], [3, 3], [3], [4, 5]]
    rows = rows_of(one.read_bytes(), one.name).to_pylist()
    who = [orjson.loads(row["request"])["who"] for row in rows]
    assert who == ["a", "line\nfeed", "c", "c", "a", "a", "a", "a", "late", "a"]
    texts = [orjson.loads(row["features"])["v__s"] for row in rows]
    assert texts == ["a", "\n", None, None, "a", "a", "a", "a", None, "a"]
    # Another file stands for itself: the first is deleted before it.
    (row,) = rows_of(second.read_bytes(), second.name).to_pylist()
    assert orjson.loads(row["features"])["v__s"] == "\n"


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=12), st.integers(1, 9)
)
def test_whatever_is_asked_again_the_rows_are_those_that_were_answered(turns, most_rows):
    names = [b'["e%d"]' % n for n in range(10)]
    values = [
        LAYOUT.encode(pl.DataFrame([[n / 7, str(n), None]], ROWS.schema, orient="row"))[0] for n in range(10)
    ]
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder), rows=most_rows)
        both = [known(b"%d" % n, names, values) for n in range(2)]
        for at, turn in enumerate(turns):
            journal.write([told(both[at % 2], turn, at)])
        journal.roll()
        tables = [rows_of(path.read_bytes(), path.name).to_pylist() for path in files(Path(folder))]
    found = [
        (to_micros(row["at"]), orjson.loads(row["request"])["who"], orjson.loads(row["features"])["v__x"])
        for rows in tables
        for row in rows
    ]
    expected = [(at, f"e{n}", n / 7) for at, turn in enumerate(turns) for n in turn]
    assert sorted(found) == sorted(expected)
    assert all(
        orjson.loads(row["views"])["v"]["snapshot_id"] == to_micros(row["at"]) % 2
        for rows in tables
        for row in rows
    )


def test_a_file_that_is_cut_anywhere_gives_its_whole_records(tmp_path):
    journal = Journal(tmp_path)
    for at in range(3):
        journal.write([entry(at=at)])
    data = files(tmp_path)[0].read_bytes()
    counts = [len(read_journal(data[:length]).answers) for length in range(len(data) + 1)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (0, 2, 3)
    journal.roll()
    # A hole at its end makes it count for what the lakehouse has to do.
    data = files(tmp_path)[0].read_bytes()
    assert len(data) == 9 * VECTOR_BYTES
    assert len(read_journal(data).answers) == 3


def test_vectors_that_take_little_count_for_more_written_and_closed(tmp_path):
    backlog = Backlog(tmp_path, (SUFFIX,))
    journal = Journal(tmp_path, backlog=backlog)
    told = entry()
    for step in range(1, 5):
        journal.write([told] * 100)
        assert backlog.bytes == 300 * step * VECTOR_BYTES
        backlog.look()
        assert backlog.bytes == 300 * step * VECTOR_BYTES
    assert files(tmp_path)[0].stat().st_size < backlog.bytes / 10
    for _ in range(2):
        journal.roll()
        assert backlog.bytes == 1_200 * VECTOR_BYTES
        backlog.look()
        assert backlog.bytes == 1_200 * VECTOR_BYTES


def test_a_file_is_closed_when_it_is_full_and_when_it_is_old(tmp_path):
    lake = FakeLake()
    log = FeatureLog(tmp_path, lake, rows=6, seconds=0.0)
    journal = log.journal()
    journal.write([entry(), entry()])
    assert log.recover() == 6
    journal.write([entry()])
    assert log.recover() == 0
    journal.roll_if_due()
    assert log.recover() == 3
    assert FeatureVectors(lake).read(None, None).height == 9
    assert len(lake.table(VECTORS).history()) == 2
    assert list(tmp_path.iterdir()) == []


def test_too_much_that_waits_is_refused_until_it_is_taken(tmp_path):
    lake = FakeLake()
    log = FeatureLog(tmp_path, lake)
    journal = Journal(tmp_path, rows=3, backlog=Backlog(tmp_path, (SUFFIX,), much=10, most=10))
    journal.write([entry()])
    with pytest.raises(UnavailableError, match="wait for the lakehouse"):
        journal.write([entry()])
    assert log.recover() == 3
    journal.write([entry()])


def test_a_write_that_fails_leaves_no_half_record(tmp_path):
    def unknown(_standing: bytes) -> About:
        raise UnavailableError("cannot be told")

    journal = Journal(tmp_path)
    journal.write([entry()])
    with pytest.raises(UnavailableError, match="cannot be told"):
        journal.write([entry(b"2"), told(known(), [0], view="w", by=unknown)])
    journal.write([entry(b"2")])
    journal.roll()
    first, second = (read_journal(path.read_bytes()) for path in files(tmp_path))
    assert (len(first.answers), len(second.answers)) == (1, 1)
    assert [one.snapshot_id for one in second.shared] == [2]


def test_parts_are_the_same_rows_and_each_is_committed_once(tmp_path):
    lake = FakeLake()
    log = FeatureLog(tmp_path, lake)
    journal = log.journal()
    for at in range(4):
        journal.write([entry(at=at)])
    journal.roll()
    (path,) = files(tmp_path)
    whole = rows_of(path.read_bytes(), path.name)
    parts = list(tables_of(path.read_bytes(), path.name, 5))
    assert [part.num_rows for part in parts] == [5, 5, 2]
    assert pa.concat_tables(parts).sort_by("vector_id").equals(whole)

    def read(data, name):
        return tables_of(data, name, 5)

    def dying(data, name):
        yield from parts[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recover(path, lake, dying)
    assert FeatureVectors(lake).read(None, None).height == 10
    assert recover(path, lake, read) == 2
    assert FeatureVectors(lake).read(None, None)["id"].to_list() == whole["vector_id"].to_pylist()
    assert list(tmp_path.iterdir()) == []
