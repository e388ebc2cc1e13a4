import asyncio
import socket
from datetime import timedelta

import httpx
import orjson
import polars as pl
import pytest

from rayplat.core.errors import IntegrityError, NotFoundError, UnavailableError, UserError
from rayplat.core.project.model import Autoscale
from rayplat.features.versions import FeatureVersions
from rayplat.serve.http import EndpointApp
from rayplat.serve.log.slot import segments, slots
from rayplat.serve.prediction_log import PredictionLog, log_folder
from rayplat.serve.predictor import Predictor
from rayplat.serve.replica import build_app
from rayplat.serve.request import MAX_BODY_BYTES, form_of
from rayplat.serve.spec import EndpointSpec

from .world import DAY, HOUR, expected, make_world

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_world(tmp_path_factory.mktemp("world"))
    made.crown(made.register())
    return made


def _spec(world, **changes):
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
        "autoscale": Autoscale(),
    }
    return EndpointSpec(**{**told, **changes})


@pytest.fixture(scope="module")
def app(world):
    made = build_app(_spec(world))
    yield made
    made.close()


def ask(app, method="POST", path="/predict", **more):
    async def once():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path="/endpoints/buys")
        async with httpx.AsyncClient(transport=transport, base_url="http://x/endpoints/buys") as http:
            return await http.request(method, path, **more)

    return asyncio.run(once())


AT = (DAY + timedelta(hours=2, minutes=30)).isoformat()
INSTANCE = {"shop": "north", "amount": 0.5}


def test_an_answer_is_what_the_network_gives_for_the_features_of_that_time(app, world):
    answer = ask(app, json={"instances": [INSTANCE, {"shop": "south", "amount": None}], "at": AT})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["endpoint"], told["model"], told["version"]) == ("buys", "buys", 1)
    north, south = told["predictions"]
    assert north["probability"] == pytest.approx(expected(3.0, 2.0, 0.5), abs=1e-6)
    assert south["probability"] == pytest.approx(expected(10.0, 10.0, 0.0), abs=1e-6)
    assert north["positive"] is (north["probability"] >= 0.5)
    kept = PredictionLog(world.settings).find(north["id"])
    assert orjson.loads(kept.request) == {"shop": "north", "amount": 0.5}
    assert orjson.loads(kept.features) == {"price__last": 3.0, "trend__mean_3h": 2.0, "visit__amount": 0.5}
    provenance = orjson.loads(kept.provenance)
    assert provenance["price"]["partition"] == 0
    assert provenance["price"]["offset"] == 1
    assert provenance["price"]["event_time"] == (DAY + 2 * HOUR).isoformat()
    assert kept.at.isoformat() == AT
    assert kept.probability == north["probability"]
    assert 0 < kept.latency_s < 5


def test_an_entity_that_was_never_seen_has_no_features_and_is_answered(app, world):
    told = ask(app, json={"instances": [{"shop": "nowhere", "amount": 1.0}], "at": AT}).json()
    assert told["predictions"][0]["probability"] == pytest.approx(expected(0, 0, 1.0), abs=1e-6)
    kept = PredictionLog(world.settings).find(told["predictions"][0]["id"])
    assert orjson.loads(kept.features) == {"price__last": None, "trend__mean_3h": None, "visit__amount": 1.0}
    assert orjson.loads(kept.provenance) == {"price": None, "trend": None}


def _logged(world):
    """The bytes of the write-ahead files: every prediction adds some."""
    return sum(s.end() - s.start for slot in slots(log_folder(world.settings)) for s in segments(slot))


def test_bad_requests_get_every_fault_and_leave_nothing_in_the_log(app, world):
    before = _logged(world)
    answer = ask(app, json={"instances": [INSTANCE, {"shop": 7, "oops": 1}]})
    assert answer.status_code == 422
    assert answer.json()["faults"] == [
        "instances[1].shop: 7 is not a string",
        'instances[1]."oops": raw.visits has no such column',
        "instances[1].amount: missing (float64)",
    ]
    assert ask(app, content=b"{").status_code == 400
    assert ask(app, content=b"\xff").status_code == 400
    assert ask(app, content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413
    assert _logged(world) == before


def test_a_body_without_told_length_is_limited_too(app):
    async def chunks():
        for _ in range(MAX_BODY_BYTES // 2**20 + 1):
            yield b" " * 2**20

    assert ask(app, content=chunks()).status_code == 413


def test_a_time_too_far_in_the_past_is_the_callers_fault(app):
    answer = ask(app, json={"instances": [INSTANCE], "at": "1999-01-01"})
    assert answer.status_code == 422
    assert "behind the newest row" in answer.json()["faults"][0]


def test_the_endpoint_describes_itself(app, world):
    told = ask(app, "GET", "").json()
    assert told["inputs"] == ["price__last", "trend__mean_3h", "visit__amount"]
    assert told["version"] == 1
    assert told["request"]["instances"][0]["shop"]["needed"] is True
    assert told["deployment"] == _spec(world).fingerprint()
    assert ask(app, "GET", "/health").json() == {"status": "ok"}
    metrics = ask(app, "GET", "/metrics").text
    assert "rayplat_serve_requests_total" in metrics
    assert "rayplat_prediction_log_rows_total" in metrics


def test_other_paths_and_methods_are_told_apart(app):
    assert ask(app, "GET", "/nothing").status_code == 404
    assert ask(app, "GET", "/predict").status_code == 405
    wrong = ask(app, "POST", "/health")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")


def test_concurrent_requests_all_get_their_own_answer(app, world):
    async def many():
        transport = httpx.ASGITransport(app, root_path="/endpoints/buys")
        async with httpx.AsyncClient(transport=transport, base_url="http://x/endpoints/buys") as http:
            bodies = [{"instances": [{"shop": "north", "amount": i / 10}], "at": AT} for i in range(40)]
            return await asyncio.gather(*(http.post("/predict", json=b) for b in bodies))

    answers = asyncio.run(many())
    found = [a.json()["predictions"][0]["probability"] for a in answers]
    assert found == [pytest.approx(expected(3.0, 2.0, i / 10), abs=1e-6) for i in range(40)]
    log = PredictionLog(world.settings)
    assert all(log.find(a.json()["predictions"][0]["id"]) for a in answers)


class _FullLog:
    """A log whose disk is full."""

    def submit(self, records):
        raise UnavailableError("disk full")

    def close(self):
        pass


class _Found:
    def __init__(self, frame):
        self.frame = frame
        self.provenance = [{}] * frame.height


def _app(world, network=None, lookup=None, log=None):
    features = pl.DataFrame({"price__last": [1.0], "trend__mean_3h": [None], "visit__amount": [True]})
    predictor = Predictor(
        endpoint="buys",
        model="buys",
        version=1,
        inputs=features.columns,
        network=network or (lambda x: x.sum(1)),
        lookup=lookup or (lambda instances, at: _Found(features)),
    )
    return EndpointApp(predictor, form_of(world.project.models[0]), log or PredictionLog(world.settings), {})


def _raise(error):
    def lookup(instances, at):
        raise error

    return lookup


BODY = {"instances": [INSTANCE]}


@pytest.mark.parametrize(
    ("fault", "status"),
    [(RuntimeError("secret"), 500), (NotFoundError("secret"), 503), (UnavailableError("secret"), 503)],
)
def test_no_error_leaks_its_trace(world, fault, status):
    made = _app(world, lookup=_raise(fault))
    answer = ask(made, json=BODY)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["type"], answer.json()["status"]) == ("about:blank", status)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    made.close()


def test_a_network_that_gives_no_number_is_a_failure_not_an_answer(world):
    made = _app(world)  # the sum over a NaN
    assert ask(made, json=BODY).status_code == 500
    made.close()


def test_without_a_durable_record_there_is_no_answer(world):
    made = _app(world, network=lambda x: x[:, 0], log=_FullLog())
    answer = ask(made, json=BODY)
    assert answer.status_code == 503
    assert "predictions" not in answer.json()
    made.close()


def test_a_replica_refuses_what_is_not_what_was_trained(world, tmp_path):
    with pytest.raises(IntegrityError):
        build_app(_spec(world, manifest_sha256="0" * 64))
    changed = tmp_path / "changed"
    changed.mkdir()
    text = (world.settings.home / "shop" / "project.py").read_text()
    (changed / "project.py").write_text(text.replace('window("3h")', 'window("2h")'))
    with pytest.raises(UserError, match="trend"):
        build_app(_spec(world, project=str(changed)))


def test_a_changed_project_still_answers_by_what_its_version_was_trained_with(world, tmp_path):
    FeatureVersions(world.settings).apply(world.project, "me")
    changed = tmp_path / "changed"
    changed.mkdir()
    text = (world.settings.home / "shop" / "project.py").read_text()
    (changed / "project.py").write_text(text.replace('window("3h")', 'window("2h")'))
    before, after = build_app(_spec(world)), build_app(_spec(world, project=str(changed)))
    first, second = (ask(made, json=BODY).json()["predictions"] for made in (before, after))
    assert [one["probability"] for one in first] == [one["probability"] for one in second]
    before.close()
    after.close()


def test_a_replica_listens_itself_where_the_settings_want_it(world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = world.settings.serve.model_copy(update={"front_port": port})
    made = build_app(_spec(world, settings=world.settings.model_copy(update={"serve": told})))
    url = f"http://127.0.0.1:{port}/v1/endpoints/buys/predict"
    answer = httpx.post(url, json={"instances": [INSTANCE], "at": AT}).json()["predictions"][0]
    made.close()
    assert answer["probability"] == pytest.approx(expected(3.0, 2.0, 0.5), abs=1e-6)
    assert answer["features_of"]["price"] == (DAY + 2 * HOUR).isoformat()
    assert PredictionLog(world.settings).find(answer["id"]).caller == "anonymous"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
