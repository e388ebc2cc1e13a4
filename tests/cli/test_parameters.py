from datetime import UTC, datetime
from typing import Any

import pytest

from rayplat.cli.parameters import parse_time, parse_values
from rayplat.cli.predict import parse_instances
from rayplat.core.errors import UserError
from rayplat.core.project.table import Column

COLUMNS = {k: Column(k) for k in ("string", "int64", "float64", "bool", "timestamp")}


def test_values_take_the_types_of_their_columns() -> None:
    pairs = ["string=a=b", "int64=-3", "float64=2.5", "bool=no", "timestamp=2024-01-02T03:00"]
    assert parse_values(pairs, COLUMNS) == {
        "string": "a=b",
        "int64": -3,
        "float64": 2.5,
        "bool": False,
        "timestamp": datetime(2024, 1, 2, 3, tzinfo=UTC),
    }
    assert parse_values(["string="], COLUMNS) == {"string": None}


@pytest.mark.parametrize("pair", ["x", "nothing=1", "int64=1.5", "float64=a", "bool=maybe", "timestamp=soon"])
def test_bad_pairs_are_refused(pair: str) -> None:
    with pytest.raises(UserError):
        parse_values([pair], COLUMNS)


def test_times_are_utc() -> None:
    assert parse_time("2024-01-02T03:00+02:00") == datetime(2024, 1, 2, 1, tzinfo=UTC)
    assert parse_time(None).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "wanted"),
    [('{"a": 1}', [{"a": 1}]), ('[{"a": 1}, {}]', [{"a": 1}, {}]), ('{"instances": [{"a": 1}]}', [{"a": 1}])],
)
def test_instances(text: str, wanted: Any) -> None:
    assert parse_instances(text) == wanted


@pytest.mark.parametrize("text", ["{", "3", "[]", "[1]", '{"instances": 3}'])
def test_what_is_no_instance_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_instances(text)
