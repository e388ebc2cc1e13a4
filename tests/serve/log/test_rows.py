"""Payloads become rows as they become records, and faster."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.serve.log.rows import SCHEMA, arrow, payload, records_of, rows_of
from tests.serve.logs import record

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_TIMES = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001  # Hypothesis adds the zone
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))]),
)


@given(
    st.lists(
        st.builds(
            replace,
            st.just(record()),
            at=_TIMES,
            asked_at=_TIMES,
            request=_TEXT,
            probability=st.floats(allow_nan=False, allow_infinity=False),
            version=st.integers(0, 2**62),
            output=st.none() | _TEXT,
            caller=st.none() | _TEXT,
            arm=st.none() | _TEXT,
            beside=st.none() | _TEXT,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_rows_are_those_of_the_records(records):
    payloads = [payload(records), payload(records[:1])]
    expected = arrow([one for found in payloads for one in records_of(found)])
    assert rows_of(payloads).equals(expected)
    assert rows_of(payloads).schema == SCHEMA


def test_of_nothing_there_are_no_rows():
    assert rows_of([]).num_rows == 0
    assert rows_of([]).schema == SCHEMA


def test_a_column_of_an_earlier_or_a_later_release_is_no_fault():
    row = orjson.loads(payload([record()]))[0]
    del row["beside"]
    rows = rows_of([orjson.dumps([{**row, "of_a_later_release": 1}])])
    assert rows.schema == SCHEMA
    assert rows["beside"].to_pylist() == [None]


@pytest.mark.parametrize(
    "bad", [b"", b"{}", b"[1]", b'[{"prediction_id":1}]', b'[{"at":"yesterday"}]', b"\xff"]
)
def test_what_is_no_prediction_is_told(bad):
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        rows_of([payload([record()]), bad])
