"""The journal: its bytes, its files, and what becomes of them in the lakehouse."""

import base64
import math
from array import array

import orjson
import polars as pl
import pytest

from rayplat.core.errors import UnavailableError
from rayplat.features.online.kept import encode_schema
from rayplat.features.online.layout import Layout
from rayplat.features.parity.journal import SUFFIX, About, Entry, Journal
from rayplat.features.parity.journal_rows import read_journal, rows_of
from rayplat.features.parity.log import FeatureLog
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


def entry(standing: bytes = b"1", at: int = 5, keys=KEYS, values=None) -> Entry:
    return told("v", standing, about, at, *zip(keys, values or LAYOUT.encode(ROWS), strict=True))


def told(view, standing, by, at, *rows) -> Entry:
    keys, values = zip(*rows, strict=True)
    sizes = array("I", map(len, values)).tobytes()
    return Entry(view, standing, by, at, b"\n".join(keys), sizes, b"".join(values))


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


def test_what_is_shared_stands_once_a_file_and_standing(tmp_path):
    journal = Journal(tmp_path)
    for standing in (b"1", b"1", b"2", b"2", b"1"):
        journal.write([entry(standing), entry(standing)])
    journal.roll()
    journal.write([entry(b"1")])
    journal.roll()
    first, second = (read_journal(path.read_bytes()) for path in files(tmp_path))
    assert [one.snapshot_id for one in first[0]] == [1, 2, 1]
    assert [answer.shared for answer in first[1]] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert [one.snapshot_id for one in second[0]] == [1]


def test_a_file_that_is_cut_anywhere_gives_its_whole_records(tmp_path):
    journal = Journal(tmp_path)
    for at in range(3):
        journal.write([entry(at=at)])
    journal.roll()
    data = files(tmp_path)[0].read_bytes()
    counts = [len(read_journal(data[:length])[1]) for length in range(len(data) + 1)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (0, 2, 3)


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
    journal = Journal(tmp_path, rows=3, most_waiting=10)
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
        journal.write([entry(b"2"), told("w", b"1", unknown, 0, *((key, b"") for key in KEYS))])
    journal.write([entry(b"2")])
    journal.roll()
    first, second = (read_journal(path.read_bytes()) for path in files(tmp_path))
    assert (len(first[1]), len(second[1])) == (1, 1)
    assert [one.snapshot_id for one in second[0]] == [2]
