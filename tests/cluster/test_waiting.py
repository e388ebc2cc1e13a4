"""Why a demand waits, by the shapes of the groups: one case for each answer."""

import pytest

from rayplat.cluster.waiting import Shape, why_waiting

HEAD = Shape("head", {"CPU": 2.0}, 1, 0, 1)


def gpu(running: int, starting: int = 0, most: int = 2) -> Shape:
    return Shape("gpu", {"CPU": 4.0, "GPU": 1.0, "accelerator_type:L4": 1.0}, running, starting, most)


@pytest.mark.parametrize(
    ("asked", "shapes", "why"),
    [
        ({"TPU": 1.0}, [HEAD, gpu(0)], "no group has the resource TPU"),
        ({"accelerator_type:H100": 0.001}, [HEAD, gpu(0)], "no group has the resource H100"),
        ({"GPU": 8.0}, [HEAD, gpu(0)], "no node is large enough: GPU 8 is asked, and gpu has 1"),
        ({"GPU": 1.0}, [HEAD, gpu(0, starting=2)], "launching 2 of gpu"),
        ({"GPU": 1.0}, [HEAD, gpu(2)], "at max: gpu has 2 of 2"),
        ({"CPU": 2.0}, [HEAD], "at max: head has 1 of 1"),
        ({"GPU": 1.0}, [HEAD, gpu(1)], "a node of gpu may start; the autoscaler has not asked for it yet"),
    ],
)
def test_each_reason(asked: dict[str, float], shapes: list[Shape], why: str) -> None:
    assert why_waiting(asked, shapes) == why


def test_resources_that_exist_on_different_nodes_only() -> None:
    shapes = [Shape("a", {"X": 1.0}, 1, 0, 1), Shape("b", {"Y": 1.0}, 1, 0, 1)]
    assert "not together on one node" in why_waiting({"X": 1.0, "Y": 1.0}, shapes)
