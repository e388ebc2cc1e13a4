from dataclasses import replace
from datetime import timedelta

import pytest

from rayplat.core.errors import UserError
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.labels import Told, labelled, tell
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.rows import SCHEMA
from rayplat.serve.log.rows import TABLE as PREDICTIONS
from rayplat.serve.log.shipping import ship
from tests.serve.logs import AT, record


@pytest.fixture
def lake(tmp_path):
    house = Lakehouse(Settings(home=tmp_path))
    yield house
    house.close()


def _told(label, **more):
    return Told("late", label, AT, "ops", **more)


def test_labels_find_predictions_by_id_and_by_key_and_the_last_counts(lake, tmp_path):
    assert labelled(lake, "late") == {}
    records = [record(i) for i in range(5)]
    log = LocalLog(tmp_path / "log", sync="process")
    log.append(records)
    log.close()
    ship(tmp_path / "log", lake, EventBus())
    ids = [r.prediction_id for r in records]
    tell(lake, [_told(True, prediction_id=ids[0]), _told(False, key={"flight_id": 1})])
    later = replace(_told(True, key={"flight_id": 1}), at=AT + timedelta(days=1))
    tell(lake, [later, _told(False, prediction_id=ids[1]), _told(True, key={"flight_id": 99})])
    tell(lake, [replace(_told(True, prediction_id=ids[2]), endpoint="another")])
    assert labelled(lake, "late") == {ids[0]: True, ids[1]: True}


def test_a_label_is_of_an_id_or_a_key():
    for wrong in ({}, {"key": {}}, {"prediction_id": "prd_x"}, {"prediction_id": "x", "key": {"a": 1}}):
        with pytest.raises(UserError):
            _told(True, **wrong)


def test_a_hostile_name_does_not_reach_a_filter(lake):
    tell(lake, [_told(True, key={"a": 1})])
    lake.ensure_schema(PREDICTIONS, SCHEMA)
    with pytest.raises(UserError, match="no endpoint"):
        labelled(lake, "x' or '1'='1")
