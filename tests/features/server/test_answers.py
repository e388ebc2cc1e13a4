"""What a real server answers: both forms of question, the same values as in process."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import polars as pl
import pytest

from rayplat.features.online.layout import Layout
from rayplat.features.online.opening import open_online
from rayplat.features.server.forms import read_binary
from rayplat.features.serving import get_online_features
from tests.features.server import world
from tests.features.server.running import Server, serving

A2 = "2013-03-01T02:00:00Z"
NEVER = "1970-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    world.fill(folder)
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home) as running:
        yield running


def column(answer, name):
    at = answer.json["metadata"]["feature_names"].index(name)
    return answer.json["results"][at]


def test_one_view_by_its_keys(server):
    answer = server.ask("POST", "/v1/features/last", {"keys": ["a", "nobody", "b", "c d", "a"]})
    assert answer.status == 200
    told = answer.json
    assert told["view"] == "last"
    assert told["features"] == ["x", "missing", "at"]
    assert told["values"] == [
        [2.5, False, A2.replace("Z", "+00:00")],
        [None, None, None],
        [None, False, A2.replace("Z", "+00:00")],
        [None, True, "2013-03-01T03:00:00+00:00"],
        [2.5, False, A2.replace("Z", "+00:00")],
    ]
    event = datetime.fromisoformat(A2).timestamp() * 1e6
    assert told["age_us"][0] == told["at_us"] - event
    assert told["age_us"][1] is None


def test_the_binary_form_keeps_what_json_cannot_tell(server):
    answer = server.ask(
        "POST", "/v1/features/last", {"keys": ["b", "nobody"]}, accept="application/octet-stream"
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    _, events, rows = read_binary(answer.body)
    layout = Layout({"x": pl.Float64(), "missing": pl.Boolean(), "at": pl.Datetime("us", "UTC")})
    x, missing, at = layout.values(rows[0])
    assert math.isnan(x)
    assert missing is False
    assert at == datetime.fromisoformat(A2)
    assert events == [at.timestamp() * 1e6, None]
    assert rows[1] == b""


@pytest.mark.parametrize("accept", ["application/json", "application/octet-stream"])
def test_the_fast_and_the_general_path_answer_alike(server, accept):
    keys = ["a", "nobody", "b", "c d"]
    fast = server.ask("POST", "/v1/features/last", {"keys": keys}, accept=accept)
    general = server.ask(
        "POST", "/v1/features/last", {"keys": keys, "at": "2013-03-01T05:00:00Z"}, accept=accept
    )
    if accept == "application/json":
        assert fast.json["values"] == general.json["values"]
    else:
        assert read_binary(fast.body)[1:] == read_binary(general.body)[1:]


def test_the_values_are_those_of_get_online_features(server, home):
    online = open_online(world.settings(home))
    requests = [{"entity": entity} for entity in ("a", "nobody", "c d")]
    expected = get_online_features(online, [world.LAST, world.RECENT], requests, datetime.now(UTC)).frame
    online.close()
    answer = server.ask(
        "POST",
        "/get-online-features",
        {
            "features": ["last:x", "last:missing", "recent"],
            "entities": {"entity": ["a", "nobody", "c d"]},
            "full_feature_names": True,
        },
    )
    for name in ("last__x", "last__missing", "recent__n"):
        assert column(answer, name)["values"] == expected[name].to_list()


def test_feasts_question_has_feasts_answer(server):
    answer = server.ask(
        "POST", "/get-online-features", {"features": ["last:x"], "entities": {"entity": ["a", "z", "c d"]}}
    )
    assert answer.json == {
        "metadata": {"feature_names": ["entity", "x"]},
        "results": [
            {
                "values": ["a", "z", "c d"],
                "statuses": ["PRESENT"] * 3,
                "event_timestamps": [NEVER] * 3,
            },
            {
                "values": [2.5, None, None],
                "statuses": ["PRESENT", "NOT_FOUND", "NULL_VALUE"],
                "event_timestamps": [A2, NEVER, "2013-03-01T03:00:00Z"],
            },
        ],
    }


def test_request_views_are_answered_beside_others(server):
    answer = server.ask(
        "POST",
        "/get-online-features",
        {
            "features": ["trip:far", "last:x"],
            "entities": {"entity": ["a", "b"]},
            "request_context": {"distance": [150, 50.5]},
        },
    )
    assert column(answer, "far")["values"] == [True, False]
    assert column(answer, "x")["values"] == [2.5, None]


def test_a_question_of_the_past_is_answered_as_of_then(server):
    body = {"keys": ["a"], "at": "2013-03-01T02:30:00Z"}
    assert server.ask("POST", "/v1/features/last", body).json["values"][0][0] == 1.5


def test_what_is_missing_gets_its_default_and_what_is_old_is_gone(server):
    filled = server.ask("POST", "/v1/features/filled", {"keys": ["a", "c d", "nobody"]})
    assert filled.json["values"] == [[2.5], [-1.0], [-1.0]]
    assert server.ask("POST", "/v1/features/old", {"keys": ["a"]}).json["values"] == [[None]]
    fresh = server.ask("POST", "/v1/features/old", {"keys": ["a"], "at": "2013-03-01T03:00:00Z"})
    assert fresh.json["values"] == [[2.5]]


def test_a_null_key_has_null_features(server):
    assert server.ask("POST", "/v1/features/last", {"keys": [None, "a"]}).json["values"][0] == [None] * 3


def test_thousands_of_keys_at_once(server):
    keys = ["a", "nobody"] * 2_000
    values = server.ask("POST", "/v1/features/last", {"keys": keys}).json["values"]
    assert [row[0] for row in values] == [2.5, None] * 2_000


def test_views_are_told(server):
    told = server.ask("GET", "/v1/features").json
    assert [view["view"] for view in told] == [view.name for view in world.project.views]
    assert server.ask("GET", "/v1/features/old").json["ttl_s"] == 3600
    assert server.ask("GET", "/healthz").json == {"status": "ok"}


def test_metrics_count_what_was_answered(server):
    server.ask("POST", "/v1/features/last", {"keys": ["a"]})
    server.ask("POST", "/v1/features/nowhere", {"keys": ["a"]})
    page = server.ask("GET", "/metrics").body.decode()
    assert 'rayplat_feature_requests_total{route="/v1/features/{view}",status="200"}' in page
    assert 'status="404"' in page
    assert 'rayplat_feature_request_seconds_bucket{le="+Inf"}' in page


def test_requests_on_one_connection_are_answered_in_their_order(server):
    with server.connect() as client:
        # The second is answered by a thread, the others at once.
        bodies = [{"keys": ["a"]}, {"keys": ["a"], "at": "2013-03-01T02:30:00Z"}, {"keys": ["nobody"]}]
        for body in bodies:
            client.send("POST", "/v1/features/last", body)
        assert [client.answer().json["values"][0][0] for _ in bodies] == [2.5, 1.5, None]


def test_many_clients_at_once(server):
    wrong: list[object] = []

    def ask(key: str, expected: float | None) -> None:
        with server.connect() as client:
            for turn in range(100):
                body = {"keys": [key]} if turn % 10 else {"keys": [key], "at": "2013-03-01T05:00:00Z"}
                found = client.ask("POST", "/v1/features/last", body).json["values"][0][0]
                if found != expected:
                    wrong.append(found)

    threads = [Thread(target=ask, args=("a", 2.5) if i % 2 else ("z", None)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
