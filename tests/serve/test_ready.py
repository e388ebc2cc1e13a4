"""Features that stand ready are those of the general way, in values, types, provenance and network input."""

import itertools
from datetime import timedelta

import polars as pl
import pytest

from rayplat.core.project.load import load_project
from rayplat.features.materialize import materialize
from rayplat.features.online.opening import open_online
from rayplat.features.serving import get_online_features
from rayplat.serve.assembly import assembled
from rayplat.serve.ready import MOST_INSTANCES, Ready, ReadyFeatures, assembled_rows

from .world import DAY, HOUR, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("ready"))


@pytest.fixture(scope="module")
def online(world):
    found = open_online(world.settings)
    yield found
    found.close()


def views(world, *names):
    return [next(v for v in world.project.views if v.name == name) for name in names]


def both(online, chosen):
    asked = []

    def general(instances, at):
        asked.append(at)
        return get_online_features(online, chosen, instances, at)

    return ReadyFeatures(online, chosen, general), general, asked


SHOPS = ("north", "south", "nobody", 'o"dd\u20ac')
AMOUNTS = (0.5, None, 1e300, -0.0)


def test_values_provenance_and_inputs_are_those_of_the_general_way(world, online):
    chosen = views(world, "price", "visit")
    quick, general, asked = both(online, chosen)
    instances = [{"shop": s, "amount": a} for s, a in itertools.product(SHOPS, AMOUNTS)]
    at = DAY + 10 * HOUR
    found, told = quick(instances, at), general(instances, at)
    assert isinstance(found, Ready)
    assert len(asked) == 1
    assert list(found.provenance) == list(told.provenance)
    inputs = [name for view in chosen for name in view.names]
    rows, x = assembled_rows(found.rows, inputs)
    rows_told, x_told = assembled(told.frame, inputs)
    assert rows == rows_told
    assert [[type(v) for v in row.values()] for row in rows] == [
        [type(v) for v in row.values()] for row in rows_told
    ]
    assert x.tobytes() == x_told.tobytes(order="C")


@pytest.mark.parametrize(
    ("instance", "at"),
    [
        ({"shop": "north", "amount": 0.5}, DAY + HOUR),  # behind the newest row
        ({"shop": None, "amount": 0.5}, DAY + 10 * HOUR),
        ({"shop": "north", "amount": 1}, DAY + 10 * HOUR),
        ({"shop": "north"}, DAY + 10 * HOUR),
    ],
)
def test_what_is_not_plain_is_left_to_the_general_way(world, online, instance, at):
    quick, _, asked = both(online, views(world, "price", "visit"))
    if "amount" in instance:
        assert isinstance(quick([instance], at).frame, pl.DataFrame)
    else:
        with pytest.raises(Exception, match="amount"):
            quick([instance], at)
    assert asked == [at]


def test_windows_and_many_instances_are_left_to_the_general_way(world, online):
    at = DAY + 10 * HOUR
    quick, _, asked = both(online, views(world, "price", "trend", "visit"))
    quick([{"shop": "north", "amount": 0.5}], at)
    quick, _, more = both(online, views(world, "price", "visit"))
    quick([{"shop": "north", "amount": 0.5}] * (MOST_INSTANCES + 1), at)
    assert (len(asked), len(more)) == (1, 1)


def test_a_row_older_than_the_time_to_live_is_no_answer(world, tmp_path):
    folder = tmp_path / "short"
    folder.mkdir()
    text = (world.settings.home / "shop" / "project.py").read_text()
    text = text.replace(
        'features={"last": pl.col("price")}', 'features={"last": pl.col("price")}, ttl=timedelta(hours=1)'
    )
    assert "ttl=timedelta(hours=1)" in text
    (folder / "project.py").write_text(
        text.replace("import polars", "from datetime import timedelta\nimport polars")
    )
    project = load_project(str(folder))
    online = open_online(world.settings)
    chosen = [v for v in project.views if v.name == "price"]
    materialize(world.lake, online, chosen, None)
    quick, general, _ = both(online, chosen)
    for at in (DAY + 2 * HOUR + timedelta(minutes=59), DAY + 4 * HOUR):
        found, told = quick([{"shop": "north"}], at), general([{"shop": "north"}], at)
        assert isinstance(found, Ready)
        assert found.rows == told.frame.to_dicts()
        assert list(found.provenance) == list(told.provenance)
    online.close()
