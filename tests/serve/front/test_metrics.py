"""What Prometheus is told by a front: by endpoint and few causes, in base units."""

import re

import httpx
import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.serve.admission.decision import Admitted
from rayplat.serve.admission.limits import Limits

from .served import MemoryLog, Uncharged, exchanged, fronted, good, question, served

PREDICT = "/v1/endpoints/counted/predict"


def told(port: int) -> dict[str, float]:
    text = httpx.get(f"http://127.0.0.1:{port}/v1/endpoints/counted/metrics").text
    lines = [line for line in text.splitlines() if 'endpoint="counted"' in line]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def value(found: dict[str, float], name: str, **labels: str) -> float:
    wanted = {f'{key}="{one}"' for key, one in labels.items()}
    return sum(
        n
        for line, n in found.items()
        if line.split("{")[0] == name and wanted <= set(re.findall(r'\w+="[^"]*"', line))
    )


def test_time_is_split_by_stage_and_requests_are_counted():
    with fronted(served("counted")) as front:
        before = told(front.port)
        for _ in range(5):
            assert exchanged(front.port, question(good(), PREDICT)).startswith(b"HTTP/1.1 200")
        after = told(front.port)
    gained = {
        stage: value(after, "rayplat_serve_stage_seconds_total", stage=stage)
        - value(before, "rayplat_serve_stage_seconds_total", stage=stage)
        for stage in ("queue", "features", "model", "log")
    }
    assert all(0 < seconds < 5 for seconds in gained.values())
    requests = "rayplat_serve_batch_requests"
    assert value(after, f"{requests}_sum") - value(before, f"{requests}_sum") == 5
    assert value(after, f"{requests}_bucket", le="1.0") - value(before, f"{requests}_bucket", le="1.0") == 5
    assert value(after, "rayplat_serve_requests_total", status="200") == 5


class Limited(Uncharged):
    """Lets in who may ask three instances at once."""

    def check(self, header, endpoint, rows, now):
        return Admitted("ann", limits=Limits(rate=1.0, burst=3.0))

    def waited(self, seconds):
        assert seconds >= 0


class Failing:
    def __init__(self):
        self.error = None

    def __call__(self, instances, at):
        raise self.error


@pytest.mark.parametrize(
    ("error", "cause"),
    [(UserError("x"), "request"), (UnavailableError("x"), "features"), (RuntimeError("x"), "internal")],
)
def test_errors_are_counted_by_cause(error, cause):
    failing = Failing()
    failing.error = error
    with fronted(served("counted", lookup=failing)) as front:
        before = told(front.port)
        exchanged(front.port, question(good(), PREDICT))
        after = told(front.port)
    name = "rayplat_serve_errors_total"
    assert value(after, name, cause=cause) - value(before, name, cause=cause) == 1


def test_a_model_without_a_number_and_a_log_that_is_full_are_causes_of_their_own():
    log = MemoryLog()
    name = "rayplat_serve_errors_total"
    with fronted(served("counted", network=lambda x: x[:2, 0]), log=log) as front:
        exchanged(front.port, question(good(), PREDICT))
        assert value(told(front.port), name, cause="model") == 1
    log.error = UnavailableError("full")
    with fronted(served("counted"), log=log) as front:
        assert exchanged(front.port, question(good(), PREDICT)).startswith(b"HTTP/1.1 503")
        assert value(told(front.port), name, cause="log") == 1


def test_more_instances_than_a_caller_may_ever_ask_are_told_apart_from_too_many_now():
    with fronted(admission=Limited()) as front:
        url = f"http://127.0.0.1:{front.port}/v1/endpoints/buys/predict"
        one = {"shop": "north", "amount": 0.5}
        assert httpx.post(url, json={"instances": [one] * 3}).status_code == 200
        refused = httpx.post(url, json={"instances": [one] * 4})
        assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")
        assert refused.json()["faults"] == ["4 instances are never let in at once: send at most 3"]
        assert "retry-after" not in refused.headers
