from datetime import timedelta
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pyarrow as pa
import pytest

from rayplat.core.errors import IntegrityError, NotFoundError, UserError
from rayplat.core.events import EventBus, TableScored
from rayplat.data.lakehouse.pins import Pins
from rayplat.serve.bulk import score as module
from rayplat.serve.bulk.plan import Rows
from rayplat.serve.bulk.score import BulkScoring
from rayplat.serve.bulk.scoring import PREFIX
from rayplat.serve.predictor import Asked
from rayplat.serve.replica import build_served
from rayplat.serve.request import Question
from rayplat.serve.spec import EndpointSpec
from tests.serve.world import DAY, HOUR, expected, make_world

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

ROWS = 40


@pytest.fixture
def world(tmp_path):
    made = make_world(tmp_path)
    made.crown(made.register())
    visits(made, range(ROWS))
    return made


def visits(world, ids):
    rng = np.random.default_rng(5)
    return world.add(
        "raw.visits",
        {
            "visit_id": list(ids),
            "asked": [DAY + timedelta(hours=2.5, seconds=i) for i in ids],
            "shop": [["north", "south", "nowhere"][i % 3] for i in ids],
            "amount": [None if i % 7 == 0 else float(rng.normal()) for i in ids],
        },
    )


def scoring(world, told=None, few=10**6):
    bus = EventBus()
    if told is not None:
        bus.subscribe(TableScored, told.append)
    return BulkScoring(world.settings, world.lake, bus, few)


def version(world, number=1):
    return world.registry.version("buys", number)


def by_endpoint(world, rows, at):
    """What the endpoint's own predictor says of each row, asked alone."""
    found = version(world)
    spec = EndpointSpec(
        settings=world.settings,
        project=world.project.address,
        definitions_sha256="",
        endpoint="buys",
        model="buys",
        version=1,
        artifact_uri=found.artifact_uri,
        manifest_sha256=found.manifest_sha256,
        autoscale=world.project.endpoints[0].autoscale,
    )
    served = build_served(spec)
    answers = []
    for row in rows:
        instance = {"shop": row["shop"], "amount": row["amount"]}
        question = Question(at or row["asked"], [instance])
        answers += served.predictor.answer([Asked(question, DAY, 0.0)])[0].records
    return [record.probability for record in answers]


def test_every_row_is_scored_as_the_endpoint_scores_it_to_the_bit(world):
    told = []
    made = scoring(world, told).score(world.project, version(world), Rows("raw.visits"))
    assert (made.rows, made.into, made.version, made.found) == (ROWS, "predictions.buys", 1, False)

    rows = world.lake.table("raw.visits").read()
    found = world.lake.table(made.into).read(snapshot_id=made.snapshot_id)
    assert found.column_names == ["visit_id", "at", "probability", "version", "scoring"]
    assert found["visit_id"].equals(rows["visit_id"])
    assert found["at"].to_pylist() == rows["asked"].to_pylist()
    assert set(found["scoring"].to_pylist()) == {made.scoring}
    assert found["probability"].to_pylist() == by_endpoint(world, rows.to_pylist(), None)
    first = rows.to_pylist()[1]  # the south
    assert found["probability"][1].as_py() == pytest.approx(expected(10.0, 10.0, first["amount"]), abs=1e-6)

    prices = world.lake.table("raw.prices").snapshot_id()
    assert [(e.into, e.snapshot_id, e.rows, dict(e.sources)) for e in told] == [
        (made.into, made.snapshot_id, ROWS, {"raw.prices": prices})
    ]


def test_a_snapshot_of_predictions_says_what_it_was_made_from(world):
    made = scoring(world).score(world.project, version(world), Rows("raw.visits", where="amount > 0"))
    (snapshot,) = world.lake.table(made.into).history()
    told = {k.removeprefix(PREFIX): v for k, v in snapshot.properties.items() if k.startswith(PREFIX)}
    assert told["key"].startswith(made.scoring)
    assert told["manifest_sha256"] == version(world).manifest_sha256
    assert (told["table"], told["where"], told["as_of"]) == ("raw.visits", "amount > 0", "asked")
    assert told["snapshot_id"] == str(world.lake.table("raw.visits").snapshot_id())
    assert told["sources"] == f'{{"raw.prices":{world.lake.table("raw.prices").snapshot_id()}}}'


def test_the_same_again_is_found_and_other_rows_are_a_snapshot_more(world):
    told = []
    bulk = scoring(world, told)
    made = bulk.score(world.project, version(world), Rows("raw.visits"))
    again = bulk.score(world.project, version(world), Rows("raw.visits"))
    assert (again.found, again.snapshot_id, again.rows) == (True, made.snapshot_id, ROWS)
    past = world.lake.table("raw.visits").snapshot_id()

    visits(world, range(ROWS, ROWS + 3))
    more = bulk.score(world.project, version(world), Rows("raw.visits", where=f"visit_id >= {ROWS}"))
    assert (more.found, more.rows, more.into) == (False, 3, made.into)
    assert world.lake.table(made.into).count() == ROWS + 3
    assert bulk.score(world.project, version(world), Rows("raw.visits", past)).found
    assert len(told) == 2


def test_all_rows_as_of_one_time(world):
    at = DAY + 0.5 * HOUR  # the south has no price yet
    made = scoring(world).score(world.project, version(world), Rows("raw.visits", at=at), "scores.early")
    found = world.lake.table("scores.early").read()
    rows = world.lake.table("raw.visits").read().to_pylist()
    assert set(found["at"].to_pylist()) == {at}
    assert found["probability"].to_pylist() == by_endpoint(world, rows, at)
    assert made.rows == ROWS


def test_another_driver_that_was_faster_is_found(world, monkeypatch):
    bulk, other = scoring(world), scoring(world)
    committed, begun = module.FencedCommitter.commit, []

    def overtaken(self, *args, **kwargs):
        if not begun:
            begun.append(None)
            begun[0] = other.score(world.project, version(world), Rows("raw.visits"))
        return committed(self, *args, **kwargs)

    monkeypatch.setattr(module.FencedCommitter, "commit", overtaken)
    made = bulk.score(world.project, version(world), Rows("raw.visits"))
    assert made.found
    assert made.snapshot_id == begun[0].snapshot_id
    assert world.lake.table(made.into).count() == ROWS


def test_snapshots_are_held_only_while_they_are_read(world, monkeypatch):
    held = []
    scan = type(world.lake.table("raw.visits")).scan

    def seen(self, *args, **kwargs):
        held.append(Pins(world.settings).held("raw.prices"))
        return scan(self, *args, **kwargs)

    monkeypatch.setattr(type(world.lake.table("raw.visits")), "scan", seen)
    scoring(world).score(world.project, version(world), Rows("raw.visits"))
    assert {world.lake.table("raw.prices").snapshot_id()} in held
    assert Pins(world.settings).held("raw.prices") == set()


@pytest.mark.parametrize(
    ("rows", "error", "told"),
    [
        (Rows("raw.nothing"), NotFoundError, "raw.nothing"),
        (Rows("raw.visits", snapshot_id=1), NotFoundError, "no snapshot 1"),
        (Rows("raw.visits", where="colour = 1"), UserError, "colour"),
        (Rows("raw.prices"), UserError, r"no columns \['amount'\], which 'buys' asks for"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_leaves_nothing(world, rows, error, told):
    with pytest.raises(error, match=told):
        scoring(world).score(world.project, version(world), rows)
    name = "predictions.buys"
    assert not world.lake.exists(name) or world.lake.table(name).count() == 0


def test_rows_without_a_time_are_refused_at_the_door(world):
    timeless = world.lake.table("raw.visits").read()
    place = timeless.schema.get_field_index("asked")
    none = pa.nulls(ROWS, timeless.schema.field(place).type)
    schema = pa.schema([f.with_nullable(True) for f in timeless.schema])
    world.lake.ensure_schema("raw.timeless", schema).append(
        timeless.cast(schema).set_column(place, schema.field(place), none)
    )
    with pytest.raises(UserError, match="40 of 40 asking rows have no 'asked'"):
        scoring(world).score(world.project, version(world), Rows("raw.timeless"))


def test_a_damaged_artifact_is_not_scored_by(world):
    weights = Path(urlparse(version(world).artifact_uri).path) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(IntegrityError, match="is not what was written"):
        scoring(world).score(world.project, version(world), Rows("raw.visits"))


def test_many_rows_need_ray(world, monkeypatch):
    monkeypatch.setattr(module, "connected", lambda: False)  # other tests of this process may be
    with pytest.raises(UserError, match="more than 5 rows, and no Ray is connected"):
        scoring(world, few=5).score(world.project, version(world), Rows("raw.visits"))
