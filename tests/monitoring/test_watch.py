from datetime import timedelta

import numpy as np
import orjson
import pytest
from sklearn.metrics import roc_auc_score

from rayplat.core.events import EventBus
from rayplat.core.ids import new_prediction_id
from rayplat.monitoring.performance import by_day
from rayplat.monitoring.watch import watch
from rayplat.registry.profile import profile_of
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.prediction_log import PredictionLog
from tests.serve.world import DAY, HOUR, make_world

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

INPUTS = ("price__last", "trend__mean_3h", "visit__amount")
A_DAY = 150


def _predictions(version, day, first, rng, amount=0.0):
    """A day of predictions whose probability follows the outcome a little."""
    made, bought = [], []
    for i in range(A_DAY):
        outcome = bool(rng.random() < 0.3)
        at = DAY + timedelta(days=day, minutes=i)
        features = dict(zip(INPUTS, rng.normal(loc=(0, 0, amount)), strict=True))
        event = {"event_time": (at - HOUR).isoformat(), "partition": 0, "offset": 1, "snapshot_id": 1}
        older = {**event, "event_time": (at - 3 * HOUR).isoformat()}
        sources = {"price": event, "trend": None if i % 2 else older}
        made.append(
            PredictionRecord(
                prediction_id=new_prediction_id(),
                endpoint="buys",
                model="buys",
                version=version,
                at=at,
                asked_at=at,
                request=orjson.dumps({"visit_id": first + i, "shop": "north"}).decode(),
                features=orjson.dumps(features, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
                provenance=orjson.dumps(sources).decode(),
                probability=float(np.clip(0.3 + 0.1 * (outcome - 0.3) + rng.normal() * 0.1, 0, 1)),
                latency_s=0.001,
            )
        )
        bought.append(outcome)
    return made, bought


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_world(tmp_path_factory.mktemp("world"))
    rng = np.random.default_rng(3)
    profile = {name: profile_of(rng.normal(size=3000)) for name in INPUTS}
    promised = {"roc_auc": 0.9, "pr_auc": 0.8, "log_loss": 0.3, "calibration_error": 0.02}
    for key in ("old", "new"):
        made.register(key, profile=profile, metrics=promised)
    log, told = PredictionLog(made.settings), {"visit_id": [], "told": [], "bought": []}
    for day, (version, amount) in enumerate([(1, 5.0), (2, 0.0), (2, 2.0)]):
        records, bought = _predictions(version, day, 1000 * day, rng, amount)
        log.append(records)
        for i, outcome in enumerate(bought):
            if day < 2 or i % 3:  # a third of the last day has no outcome yet
                told["visit_id"].append(1000 * day + i)
                told["told"].append(DAY + timedelta(days=day + 1))
                told["bought"].append(outcome)
    # An outcome that is corrected later counts as it was told last.
    told["visit_id"] += [0]
    told["told"] += [DAY + timedelta(days=9)]
    told["bought"] += [not told["bought"][0]]
    made.add("raw.outcomes", told)
    log.drain(made.lake, made.settings, EventBus())
    log.close()
    return made, records, told


def test_days_are_measured_with_the_outcomes_that_came(world):
    made, last_day, told = world
    days = by_day(made.lake, made.project, made.project.endpoints[0])
    assert [d.day.isoformat() for d in days] == ["2024-03-01", "2024-03-02", "2024-03-03"]
    assert [d.count for d in days] == [A_DAY] * 3
    assert [d.labelled for d in days] == [A_DAY, A_DAY, 100]
    assert [d.versions for d in days] == [(1,), (2,), (2,)]
    outcome = dict(zip(told["visit_id"], told["bought"], strict=True))
    known = [
        (outcome[v], r.probability) for r in last_day if (v := orjson.loads(r.request)["visit_id"]) in outcome
    ]
    y, p = np.array(known).T
    assert days[2].base_rate == pytest.approx(y.mean())
    assert days[2].metrics["roc_auc"] == pytest.approx(roc_auc_score(y, p))
    first = [outcome[i] for i in range(A_DAY)]
    assert days[0].base_rate == pytest.approx(np.mean(first))


def test_the_watch_judges_the_version_that_answers_now(world):
    made, _, _ = world
    report = watch(made.lake, made.registry, made.project, made.project.monitors[0])
    assert report.version == 2
    assert report.unlabelled == 50
    assert len(report.days) == 3
    assert report.drifted == ("visit__amount",)
    by_day_of_amount = report.drift["visit__amount"]
    assert [d.isoformat() for d in by_day_of_amount] == ["2024-03-02", "2024-03-03"]
    calm, moved = by_day_of_amount.values()
    assert not calm.over(0.2)
    assert moved.over(0.2)
    assert report.decayed
    assert report.decay.metric == "roc_auc"
    assert report.decay.promised == 0.9
    assert report.decay.drop == pytest.approx(0.9 - report.decay.served)
    price, trend = report.freshness
    assert (price.view, price.p50_s, price.p95_s, price.missing) == ("price", 3600, 3600, 0)
    assert (trend.view, trend.p50_s, trend.missing) == ("trend", 3 * 3600, 0.5)


def test_before_the_first_prediction_nothing_is_judged(tmp_path):
    made = make_world(tmp_path)
    report = watch(made.lake, made.registry, made.project, made.project.monitors[0])
    assert (report.version, report.days, report.decayed, report.drifted) == (None, (), False, ())
    assert by_day(made.lake, made.project, made.project.endpoints[0]) == []


def test_predictions_without_any_outcome_are_counted_unlabelled(tmp_path):
    made = make_world(tmp_path)
    made.register()
    log = PredictionLog(made.settings)
    log.append(_predictions(1, 0, 0, np.random.default_rng(1))[0])
    log.drain(made.lake, made.settings, EventBus())
    log.close()
    report = watch(made.lake, made.registry, made.project, made.project.monitors[0])
    assert report.unlabelled == A_DAY
    assert not report.decayed
    assert "only 0 outcomes" in report.decay.reason
    assert (report.days[0].labelled, report.days[0].base_rate, report.days[0].metrics) == (0, None, {})
