"""The arms of a real replica: registered versions, an artifact that is gone, and what the log, the watch and
the passport see of it."""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from rayplat.core.errors import RayplatError
from rayplat.core.events import EventBus
from rayplat.core.project.serving import Answering, Traffic
from rayplat.monitoring.served import served as answered
from rayplat.serve.arms.wired import with_arms
from rayplat.serve.log.rows import TABLE
from rayplat.serve.others import CHALLENGER, PREVIOUS, Others, find_others
from rayplat.serve.prediction_log import PredictionLog
from rayplat.serve.predictor import Asked
from rayplat.serve.replica import build_app, build_served, open_log
from rayplat.serve.request import Question
from rayplat.serve.spec import EndpointSpec
from tests.serve.world import make_world

BODY = b'{"instances":[{"shop":"north","amount":0.5}]}'


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_world(tmp_path_factory.mktemp("arms"))
    for key, bias in (("a", -1.0), ("b", 0.0), ("c", 2.0)):
        made.register(key, bias=bias)
    made.crown(2)
    made.registry.set_alias("buys", CHALLENGER, 3, "ada", "it is better on the test period")
    made.registry.set_alias("buys", PREVIOUS, 1, "ada", "it was champion before")
    return made


def _spec(world, traffic, **changes):
    champion = world.registry.by_alias("buys", "champion")
    told = {
        "settings": world.settings,
        "project": world.project.address,
        "definitions_sha256": "",
        "endpoint": "buys",
        "model": "buys",
        "version": champion.version,
        "artifact_uri": champion.artifact_uri,
        "manifest_sha256": champion.manifest_sha256,
        "autoscale": world.project.endpoints[0].autoscale,
        "traffic": traffic,
        "others": find_others(world.registry, "buys", champion.version, traffic),
    }
    return EndpointSpec(**{**told, **changes})


def _asked(spec, count):
    app = build_app(spec)

    async def ask():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path="/endpoints/buys")
        async with httpx.AsyncClient(transport=transport, base_url="http://x/endpoints/buys") as http:
            found = [await http.post("/predict", content=BODY) for _ in range(count)]
            assert [one.status_code for one in found] == [200] * count
            return [one.json() for one in found]

    try:
        return asyncio.run(ask())
    finally:
        app.close()


def _logged(world):
    PredictionLog(world.settings).drain(world.lake, world.settings, EventBus())
    return {row["prediction_id"]: row for row in world.lake.table(TABLE).read().to_pylist()}


def test_canary_and_shadow_answer_as_they_were_declared_and_the_log_says_who(world):
    told = _asked(_spec(world, Traffic(canary=0.3, shadow=1.0)), 60)
    rows = _logged(world)
    versions = [answer["version"] for answer in told]
    assert set(versions) == {2, 3}
    ids = [answer["predictions"][0]["id"] for answer in told]
    assert [rows[i]["arm"] for i in ids] == [{2: "champion", 3: "canary"}[v] for v in versions]
    assert [rows[i]["version"] for i in ids] == versions
    shadows = [row for row in rows.values() if row["arm"] == "shadow"]
    assert {row["beside"] for row in shadows} == set(ids)
    assert {row["version"] for row in shadows} == {3}
    assert not {row["prediction_id"] for row in shadows} & set(ids), "a shadow's prediction is never told"
    by_version = {a["version"]: a["predictions"][0]["probability"] for a in told}
    assert {row["probability"] for row in shadows} == {by_version[3]}
    watched = answered(world.lake, SimpleNamespace(name="buys"))
    assert set(watched.get_column("prediction_id")) == set(ids), "the watch counts what was answered"


def test_what_was_not_asked_for_is_not_loaded(world):
    assert find_others(world.registry, "buys", 2, Traffic()).challenger is None
    others = find_others(world.registry, "buys", 2, Traffic(shadow=0.1))
    assert (others.challenger.version, others.previous.version) == (3, 1)
    assert find_others(world.registry, "buys", 3, Traffic(canary=1.0)).challenger is None
    spec = _spec(world, Traffic(shadow=0.1))
    assert EndpointSpec.from_json(spec.to_json()) == spec
    assert spec.fingerprint() != _spec(world, Traffic(shadow=0.1), others=Others()).fingerprint()


def test_the_version_before_and_then_the_default_stand_in(world, tmp_path):
    project = Path(world.project.address)
    copied = tmp_path / "shop"
    shutil.copytree(project if project.is_dir() else project.parent, copied)
    file = copied / "project.py"
    # Only the champion's network has a bias of 0 and fails.
    broken = file.read_text().replace(
        "return self.linear(", "assert float(self.linear.bias[0]) != 0.0\n        return self.linear("
    )
    file.write_text(broken)
    spec = _spec(world, Traffic(), project=str(copied))
    told = _asked(spec, 3)
    assert [(a["version"], a["predictions"][0]["fallback"]) for a in told] == [(1, "previous")] * 3
    bare = _spec(world, Traffic(), project=str(copied), others=Others(), answering=Answering(default=0.25))
    (default,) = _asked(bare, 1)
    assert default["predictions"][0] | {"id": "x"} == {
        "id": "x",
        "probability": 0.25,
        "positive": False,
        "features_of": {},
        "fallback": "default",
    }
    rows = _logged(world)
    assert rows[told[0]["predictions"][0]["id"]]["arm"] == "previous"
    assert rows[default["predictions"][0]["id"]]["arm"] == "default"


def test_a_challenger_that_is_gone_fails_the_start_and_the_version_before_does_not(world):
    whole = find_others(world.registry, "buys", 2, Traffic(canary=0.5))
    gone = whole.challenger.__class__(9, f"file://{world.settings.home}/nothing", "0" * 64)
    with pytest.raises(RayplatError):
        build_app(_spec(world, Traffic(canary=0.5), others=Others(challenger=gone)))
    assert _asked(_spec(world, Traffic(), others=Others(previous=gone)), 1)[0]["version"] == 2


def test_a_challenger_that_is_canary_and_shadow_is_loaded_once(world):
    built = []

    def build(spec, arm):
        built.append((spec.version, arm))
        return build_served(spec, arm)

    spec = _spec(world, Traffic(canary=0.5, shadow=1.0))
    _, log = with_arms(spec, build, open_log(spec))
    log.close()
    assert built == [(2, "champion"), (3, "canary"), (1, "previous")]


def test_versions_of_the_same_features_share_what_was_read(world):
    spec = _spec(world, Traffic())
    champion, other = build_served(spec).predictor, build_served(spec, "shadow").predictor
    question = Asked(Question(datetime.now(UTC), [{"shop": "north", "amount": 0.5}]), datetime.now(UTC), 0.0)
    (answer,) = champion.answer([question])
    said = other.beside([answer.records])
    assert said is not None
    assert list(said.probabilities) == [record.probability for record in answer.records]
