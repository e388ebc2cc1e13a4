"""Replicas over GPU nodes that are not there yet: from zero to zero, and no request lost."""

import math

import pytest
import replicas_gpu
import replicas_load


def _sample(replicas, nodes, bridges=0):
    return {"replicas": replicas, "nodes": nodes, "bridges": bridges}


def test_what_a_run_promises_is_looked_for():
    samples = [_sample(0, 0), _sample(3, 3), _sample(0, 0)]
    good = {"failed": 0, "answered": 9, "failures": [], "samples": samples}
    assert replicas_gpu.breaches(good) == []
    for change, told in [
        ({"failed": 1}, "1 requests failed"),
        ({"answered": 0}, "beside 0"),
        ({"samples": [_sample(0, 0), _sample(3, 2), _sample(0, 0)]}, "never 3 replicas"),
        ({"samples": [_sample(0, 0), _sample(3, 3), _sample(0, 0, 1)]}, "with nothing"),
    ]:
        assert any(told in one for one in replicas_gpu.breaches({**good, **change}))


@pytest.mark.parametrize("pid", [1, 4711, 4_194_304])
def test_a_probability_tells_the_process_exactly(pid):
    p = 1 / (1 + math.exp(-pid * replicas_load.SCALE))
    assert replicas_load.process_of(f'{{"predictions": [{{"probability": {p!r}}}]}}'.encode()) == pid


@pytest.mark.slow
@pytest.mark.ray
def test_from_no_replica_over_new_gpu_nodes_back_to_none_and_no_request_is_lost():
    run = replicas_gpu.live()
    assert replicas_gpu.breaches(run) == []
    assert run["first_s"] < run["all_s"]
