"""`rayplat predict`: an endpoint is asked by --json, a table is scored by --project."""

from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.serve.bulk.scoring import KEY
from tests.serve.world import DAY, expected, make_world

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture
def world(rayplat):
    made = make_world(Path.cwd(), Settings(home=Path.cwd() / ".rayplat"))
    made.crown(made.register())
    made.register("b", bias=2.0)
    made.add("raw.visits", {"visit_id": [1], "asked": [DAY], "shop": ["north"], "amount": [0.5]})
    return made


def test_a_table_is_scored_and_found_scored(rayplat, world):
    made = rayplat("predict", "raw.visits", "--project", "shop", "-o", "json")
    assert made.code == 0, made.err
    assert (made.data["rows"], made.data["version"], made.data["found"]) == (1, 1, False)
    found = world.lake.table("predictions.buys").read()
    assert found["probability"][0].as_py() == pytest.approx(expected(1.0, 1.0, 0.5), abs=1e-6)

    assert rayplat("predict", "raw.visits", "--project", "shop", "-o", "json").data["found"] is True
    text = rayplat("predict", "raw.visits", "--project", "shop").out
    assert "predictions.buys" in text

    other = rayplat("predict", "raw.visits", "--project", "shop", "--model", "buys/2", "-o", "json").data
    assert (other["version"], other["found"]) == (2, False)
    history = rayplat("data", "history", "predictions.buys", "-o", "json").data
    assert [one["rows_added"] for one in history] == [1, 1]
    assert all(KEY in one["properties"] for one in history)
    (entry, _) = rayplat("audit", "list", "--action", "table.scored", "-o", "json").data
    assert entry["details"]["table"] == "raw.visits"


def test_where_snapshot_time_and_target(rayplat, world):
    args = ["--where", "amount > 1", "--into", "scores.rich", "--at", "2024-03-01T00:00"]
    made = rayplat("predict", "raw.visits", "--project", "shop", *args, "-o", "json")
    assert (made.code, made.data["rows"], made.data["into"]) == (0, 0, "scores.rich")
    assert rayplat("predict", "raw.visits", "--project", "shop", "--snapshot", "7").code == 3


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["raw.visits"], 2, "neither --json nor --project"),
        (["buys", "--json", "{}", "--project", "shop"], 2, "give one of them"),
        (["raw.none", "--project", "shop"], 3, "raw.none"),
        (["raw.visits", "--project", "shop", "--model", "sells"], 3, "no model 'sells'"),
        (["raw.visits", "--project", "shop", "--model", "buys@best"], 3, "no alias 'best'"),
        (["raw.visits", "--project", "shop", "--at", "noon"], 2, "no time"),
    ],
)
def test_what_is_wrong_is_told(rayplat, world, args, code, told):
    found = rayplat("predict", *args)
    assert found.code == code, found.err
    assert told in found.err


def test_a_version_is_signed_and_only_a_signed_one_is_scored_by(rayplat, world):
    made = rayplat("models", "key", "team.pem", "-o", "json").data
    trust = ["--set", "registry.trusted_keys=team.pem.pub"]
    refused = rayplat("predict", "raw.visits", "--project", "shop", *trust)
    assert (refused.code, "is not signed" in refused.err) == (6, True)
    assert rayplat("models", "verify", "buys@champion", *trust).code == 6
    assert rayplat("models", "sign", "buys@champion").code == 2  # no key is named
    signing = ["--set", "registry.signing_key=team.pem"]
    assert rayplat("models", "sign", "buys@champion", *signing, "-o", "json").data["signed_by"] == made["key"]
    found = rayplat("models", "verify", "buys@champion", *trust, "-o", "json").data
    assert (found["signed_by"], found["files"]) == (made["key"], 1)
    assert rayplat("predict", "raw.visits", "--project", "shop", *trust).code == 0
