import asyncio
import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

import httpx
import orjson
import pyarrow as pa
import pytest

from rayplat.core.errors import NotFoundError
from rayplat.core.events import AliasMoved, EndpointDeployed, EventBus
from rayplat.core.project.model import Autoscale
from rayplat.core.settings import Settings
from rayplat.governance.audit_log import AuditLog
from rayplat.governance.passport import build_passport
from rayplat.registry.manifest import CodePin, TrainingPin
from rayplat.serve.prediction_log import PredictionLog
from rayplat.serve.replica import build_app
from rayplat.serve.spec import EndpointSpec
from tests.serve.world import DAY, HOUR, expected, make_world

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

AT = DAY + timedelta(hours=2, minutes=30)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def audit(world):
    log = AuditLog(world.settings)
    yield log
    log.close()


def _train(world):
    """A training set's snapshot, and the manifest's pins to it and its sources."""
    schema = pa.schema([pa.field("x", pa.float64())])
    table = world.lake.ensure_schema("training.buys", schema)
    snapshot = table.append(pa.table({"x": [1.0]}), {"rayplat.training.digest": "d" * 64})
    sources = {"raw.prices": world.lake.table("raw.prices").snapshot_id()}
    pin = TrainingPin(table="training.buys", snapshot_id=snapshot, digest="d" * 64, sources=sources)
    return {"key": str(snapshot), "training": pin}


def _deploy(world, audit, version):
    previous = world.crown(version)
    audit.record(
        AliasMoved(
            model="buys",
            alias="champion",
            version=version,
            previous=previous,
            actor="risk@example.com",
            reason="all gates passed",
        )
    )
    audit.record(EndpointDeployed(endpoint="buys", model="buys", version=version))


def _ask(world, shop="north"):
    """Ask the real application of a replica; the id of the prediction."""
    champion = world.registry.by_alias("buys", "champion")
    spec = EndpointSpec(
        settings=world.settings,
        project=world.project.address,
        definitions_sha256="",
        endpoint="buys",
        model="buys",
        version=champion.version,
        artifact_uri=champion.artifact_uri,
        manifest_sha256=champion.manifest_sha256,
        autoscale=Autoscale(),
    )
    app = build_app(spec)

    async def once():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            body = {"instances": [{"shop": shop, "amount": 0.5}], "at": AT.isoformat()}
            return await http.post("/predict", json=body)

    answer = asyncio.run(once()).json()
    app.close()
    return answer["predictions"][0]["id"]


def _passport(world, audit, prediction_id):
    return build_passport(world.lake, world.registry, audit, world.project, prediction_id)


def _nodes(passport):
    found = {}
    for node in passport.root.walk():
        found.setdefault(node.kind, []).append(node)
    return found


def test_every_link_from_the_answer_to_the_offsets(world, audit):
    version = world.register(**_train(world))
    _deploy(world, audit, version)
    prediction = _ask(world)
    # Later history does not change what is told of the past.
    world.add("raw.prices", {"shop": ["north"], "seen": [DAY + 3 * HOUR], "price": [9.0]})
    entries = audit.verify()
    waiting = _passport(world, audit, prediction)
    PredictionLog(world.settings).drain(world.lake, world.settings, EventBus())
    passport = _passport(world, audit, prediction)
    assert "outbox" in waiting.root.facts["logged in"]
    assert passport.root.facts["logged in"] == "serving.predictions"
    assert passport.root.children == waiting.root.children
    assert passport.whole

    nodes = _nodes(passport)
    assert passport.root.facts["probability"] == pytest.approx(expected(3.0, 2.0, 0.5), abs=1e-6)
    assert nodes["request"][0].facts == {"shop": "north", "amount": 0.5}
    assert nodes["features"][0].facts["price__last"] == 3.0
    price = nodes["source event"][0]
    assert (price.facts["topic"], price.facts["partition"], price.facts["offset"]) == ("prices", 0, 1)
    first = world.lake.table("raw.prices").history()[0].snapshot_id
    assert price.children[0].facts["snapshot"] == first
    assert nodes["endpoint"][0].facts["deployed by"] == world.settings.user
    assert nodes["alias"][0].facts["set by"] == "risk@example.com"
    assert nodes["alias"][0].facts["why"] == "all gates passed"
    assert nodes["model version"][0].facts["version"] == version
    assert "weights.safetensors" in " ".join(nodes["artifact"][0].facts)
    assert nodes["run"][0].facts["git commit"] == "c0ffee"
    assert nodes["run"][0].facts["roc_auc"] == 0.9
    training = nodes["training set"][0]
    assert training.facts["digest"] == "d" * 64
    pinned = training.children[0]
    assert (pinned.facts["table"], pinned.facts["snapshot"]) == ("raw.prices", first)
    assert pinned.children[0].facts == {"topic": "prices", "partition": 0, "first after": 3}
    assert nodes["audit log"][0].facts["entries"] == entries

    told = orjson.loads(passport.to_json())
    assert (told["prediction_id"], told["whole"]) == (prediction, True)
    assert told["root"]["children"][0]["facts"] == {"shop": "north", "amount": 0.5}


def test_what_the_records_do_not_tell_is_said_and_not_guessed(world, audit):
    version = world.register(
        "without git",
        code=CodePin(git_commit="unknown", dirty=False, project="shop", project_sha256="e" * 64),
    )
    world.crown(version)
    nodes = _nodes(_passport(world, audit, _ask(world, "nowhere")))
    assert nodes["endpoint"][0].state == "unknown"
    assert nodes["alias"][0].state == "unknown"
    assert "no git repository" in nodes["run"][0].facts["not established"]
    assert nodes["training set"][0].state == "unknown"
    assert nodes["artifact"][0].state == "established"
    assert "was known for this entity" in nodes["source event"][0].title


def test_a_later_deployment_and_alias_are_not_taken_for_the_earlier_one(world, audit):
    first = world.register(**_train(world))
    world.crown(first)
    prediction = _ask(world)
    _deploy(world, audit, first)
    nodes = _nodes(_passport(world, audit, prediction))
    assert nodes["endpoint"][0].state == "unknown"
    assert nodes["alias"][0].state == "unknown"


def test_a_changed_artifact_is_seen_when_the_passport_is_asked_for(world, audit):
    version = world.register(**_train(world))
    _deploy(world, audit, version)
    prediction = _ask(world)
    uri = world.registry.version("buys", version).artifact_uri
    weights = Path(uri.removeprefix("file://")) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    passport = _passport(world, audit, prediction)
    assert not passport.whole
    assert _nodes(passport)["artifact"][0].state == "broken"
    assert "weights.safetensors" in _nodes(passport)["artifact"][0].facts["broken"]


def test_a_training_set_with_another_digest_is_broken(world, audit):
    pins = _train(world)
    wrong = pins["training"].model_copy(update={"digest": "f" * 64})
    _deploy(world, audit, world.register("wrong", training=wrong))
    assert _nodes(_passport(world, audit, _ask(world)))["training set"][0].state == "broken"


def test_a_broken_audit_log_is_told(world, audit, tmp_path):
    _deploy(world, audit, world.register(**_train(world)))
    prediction = _ask(world)
    PredictionLog(world.settings).drain(world.lake, world.settings, EventBus())
    stolen = Settings(home=tmp_path)
    with (
        contextlib.closing(sqlite3.connect(world.settings.home / "rayplat.db")) as database,
        contextlib.closing(sqlite3.connect(tmp_path / "rayplat.db")) as copy,
    ):
        database.backup(copy)
        copy.execute("UPDATE audit_log SET actor = 'eve' WHERE seq = 1")
        copy.commit()
    edited = AuditLog(stolen)
    found = _nodes(_passport(world, edited, prediction))["audit log"][0]
    edited.close()
    assert found.state == "broken"
    assert "entry 1" in found.facts["broken"]


@pytest.mark.parametrize("wrong", ["prd_" + "0" * 32, "nonsense", "x' or 1 == 1 or '"])
def test_an_unknown_prediction_is_not_found(world, audit, wrong):
    with pytest.raises(NotFoundError):
        _passport(world, audit, wrong)
