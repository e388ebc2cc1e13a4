"""The live period: which rows ask, in what form, and where an interrupted one goes on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from rayplat.core.project.load import load_project
from rayplat.core.project.model import Replay
from rayplat.delivery.live import _first_open_tick, _key, questions, request_columns

ROOT = Path(__file__).parents[2]
MODEL = load_project(str(ROOT / "examples" / "flights")).models[0]
REPLAY = Replay(datetime(2013, 9, 1, tzinfo=UTC), datetime(2013, 9, 8, tzinfo=UTC), timedelta(hours=6))


def rows(*times: datetime) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "flight_id": [f"f{number}" for number in range(len(times))],
            "scheduled_departure": list(times),
            "carrier": "UA",
            "tailnum": None,
            "origin": "EWR",
            "dest": "IAH",
            "distance": 1400.0,
            "_partition": 0,
        }
    )


def test_a_request_has_what_the_features_need_and_the_key_of_the_label() -> None:
    columns = request_columns(MODEL)
    assert columns == ["flight_id", "scheduled_departure", "carrier", "tailnum", "origin", "dest", "distance"]


def test_rows_of_one_instant_ask_together_in_order_of_time() -> None:
    early, late = datetime(2013, 9, 1, 8, tzinfo=UTC), datetime(2013, 9, 1, 9, tzinfo=UTC)
    asked = list(questions(MODEL, rows(late, early, late)))
    assert [(at, [i["flight_id"] for i in instances]) for at, instances in asked] == [
        (early, ["f1"]),
        (late, ["f0", "f2"]),
    ]
    assert "_partition" not in asked[0][1][0]


def test_the_key_of_a_row_is_that_of_its_request() -> None:
    row = rows(datetime(2013, 9, 1, 8, tzinfo=UTC)).to_dicts()[0]
    assert _key(row, MODEL) == _key({"flight_id": "f0"}, MODEL) == "f0"


def test_an_interrupted_period_goes_on_at_the_tick_of_the_newest_question() -> None:
    assert _first_open_tick(REPLAY, None) == REPLAY.history_until
    newest = datetime(2013, 9, 2, 13, 59, tzinfo=UTC)
    assert _first_open_tick(REPLAY, newest) == datetime(2013, 9, 2, 12, tzinfo=UTC)
    assert _first_open_tick(REPLAY, REPLAY.history_until) == REPLAY.history_until
