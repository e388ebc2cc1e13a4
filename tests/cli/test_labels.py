"""`rayplat labels`: told by id or key, and counted where a prediction has one."""

from pathlib import Path

from rayplat.cli.labels import parse_key
from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.shipping import ship
from tests.serve.logs import record


def test_a_label_is_told_and_counted(rayplat):
    settings = Settings(home=Path.cwd() / ".rayplat")
    log, records = LocalLog(settings.home / "prediction_log", sync="process"), [record(i) for i in range(3)]
    log.append(records)
    log.close()
    lake = Lakehouse(settings)
    ship(settings.home / "prediction_log", lake, EventBus())
    lake.close()
    assert rayplat("labels", "tell", "late", "true", "--id", records[0].prediction_id).code == 0
    assert rayplat("labels", "tell", "late", "false", "--key", "flight_id=1").code == 0
    counted = rayplat("labels", "count", "late", "-o", "json").data
    assert counted == {"endpoint": "late", "labelled": 2, "true": 1}


def test_what_is_wrong_is_told(rayplat):
    for wrong in (["maybe", "--id", "x"], ["true"], ["true", "--id", "x"], ["true", "--key", "x"]):
        assert rayplat("labels", "tell", "late", *wrong).code == 2


def test_values_of_a_key():
    told = parse_key(["a=7", "b=-7", "c=true", "d=JFK", 'e="7"', "f=a=b"])
    assert told == {"a": 7, "b": -7, "c": True, "d": "JFK", "e": "7", "f": "a=b"}
