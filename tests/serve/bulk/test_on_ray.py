import numpy as np
import pytest

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.serve.bulk.plan import Rows
from rayplat.serve.bulk.score import BulkScoring
from tests.serve.bulk import rows_project
from tests.serve.world import DAY, HOUR, make_world

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def settings(ray_session, tmp_path):
    return Settings(home=tmp_path)


@pytest.mark.parametrize("at", [None, DAY + 5 * HOUR])
def test_tasks_score_as_one_process_does_where_features_are_of_the_row(settings, at):
    project, version = rows_project.make(settings.home, settings)
    lake = rows_project.fill(settings, files=3, rows=5000)
    rows = Rows("raw.readings", where="reading != 7", at=at)
    here = BulkScoring(settings, lake, EventBus()).score(project, version, rows, "scores.here")
    there = BulkScoring(settings, lake, EventBus(), few=10).score(project, version, rows, "scores.there")
    assert here.rows == there.rows == 14_999
    one = lake.table("scores.here").read(["reading", "at", "probability"])
    many = lake.table("scores.there").read(["reading", "at", "probability"])
    assert many.equals(one)
    assert len(np.unique(one["probability"])) > 14_000
    assert len(list(lake.table("scores.there").paths())) >= 1


def test_tasks_score_as_one_process_does_where_features_are_of_other_rows(settings):
    world = make_world(settings.home, settings)
    world.crown(world.register())
    world.add(
        "raw.visits",
        {
            "visit_id": list(range(30)),
            "asked": [DAY + i * HOUR / 10 for i in range(30)],
            "shop": [["north", "south", "nowhere"][i % 3] for i in range(30)],
            "amount": [i / 7 for i in range(30)],
        },
    )
    version = world.registry.version("buys", 1)
    found = {}
    for into, few in (("scores.here", 1000), ("scores.there", 10)):
        made = BulkScoring(settings, world.lake, EventBus(), few)
        made.score(world.project, version, Rows("raw.visits"), into)
        found[into] = world.lake.table(into).read(["visit_id", "at", "probability"])
    assert found["scores.there"].num_rows == 30
    assert found["scores.there"].equals(found["scores.here"])
