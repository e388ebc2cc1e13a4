"""A day of scaling: never over max, no demand that could be met waits for long, and back to the minimum."""

import random
from pathlib import Path

import pytest
import scale_day


def day(nodes: list[tuple[str, str]], waiting: bool, at: float) -> dict[str, object]:
    asked = [{"resources": {"GPU": 1.0}, "count": 1, "could_be_met": True}] if waiting else []
    return {"at": at, "nodes": nodes, "waiting": asked, "gpus": {}, "leaving": 0, "taken": 0}


def test_the_invariants_find_what_is_broken() -> None:
    head, gpu = ("head", "on-demand"), ("gpu", "spot")
    samples = [day([head, *[gpu] * 4], True, 0.0), day([head], True, 61.0)]
    lived = {
        "samples": samples,
        "given_back": 0,
        "taken_in": 1,
        "produced": 2,
        "answered": 0,
        "steps": [1, 2, 4],
        "trainings": [{"stopped": False}],
    }
    told = "\n".join(scale_day.breaches(lived))
    for part in (
        "more than",
        "waited for 61 s",
        "gave nothing back",
        "1 of 2 records",
        "no caller",
        "[3] are missing",
        "without its checkpoint",
    ):
        assert part in told, part


@pytest.mark.slow
@pytest.mark.parametrize("cycles", [1, 3])
def test_a_day_under_mixed_load(tmp_path: Path, cycles: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    lived = scale_day.run_day(seed, cycles)
    assert scale_day.breaches(lived) == []
    # The end is seen in the money, too: only the head is paid for.
    assert lived["rate_at_the_end"] == pytest.approx(0.20)
    scale_day.draw(lived, tmp_path / "day.png")
    assert (tmp_path / "day.png").stat().st_size > 10_000
