"""Several ranks save and load together: FSDP2 over gloo processes, and how one that fails is told."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from rayplat.core.errors import IntegrityError, RayplatError, UnavailableError
from rayplat.train.checkpoints import writer
from rayplat.train.checkpoints.steps import StepCheckpoints
from tests.train.checkpoints.states import files_of, same, state

pytestmark = pytest.mark.timeout(180)

RANKS = Path(__file__).with_name("ranks.py")


def run(tmp_path: Path, world: int, action: str, step: int) -> list[list[str]]:
    """What each rank printed, a list of words a line; all ranks must have printed the same."""
    store = tmp_path / f"store-{step}-{world}-{action}"
    command = [str(store), f"file://{tmp_path}/checkpoints", action, str(step)]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(RANKS), str(rank), str(world), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    told = []
    for rank in ranks:
        out, errors = rank.communicate(timeout=120)
        assert rank.returncode == 0, errors[-3000:]
        told.append([line.split() for line in out.splitlines()])
    assert all(one == told[0] for one in told)
    return told[0]


def test_a_state_of_one_rank_is_cut_for_two(tmp_path):
    ((_, _, first),) = run(tmp_path, 1, "save", 1)
    assert run(tmp_path, 2, "load", 2) == [["loaded", "1", first]]


@pytest.mark.slow
def test_a_state_is_cut_anew_for_one_two_three_ranks_and_back(tmp_path):
    ((_, _, first),) = run(tmp_path, 1, "save", 1)
    loaded, saved = run(tmp_path, 2, "save", 2)
    assert loaded == ["loaded", "1", first]
    (newest,) = tmp_path.glob("checkpoints/step-0000000002-*")
    assert len(list(newest.glob("shard-*-of-00002.*"))) == 2
    loaded, third = run(tmp_path, 3, "save", 3)
    assert loaded == ["loaded", "2", saved[2]]
    # A damaged shard of three: every rank, also those that do not need it, passes on to the one before.
    run_of_three = next(iter(tmp_path.glob("checkpoints/step-0000000003-*/shard-00001-*")))
    content = bytearray(run_of_three.read_bytes())
    content[-1] ^= 1
    run_of_three.write_bytes(bytes(content))
    assert run(tmp_path, 2, "load", 3) == [["loaded", "2", saved[2]]]
    content[-1] ^= 1
    run_of_three.write_bytes(bytes(content))
    assert run(tmp_path, 1, "load", 3) == [["loaded", "3", third[2]]]
    # Without a process group, and whole.
    found = StepCheckpoints(f"file://{tmp_path}/checkpoints").latest()
    assert found is not None
    assert found[0] == 3
    assert found[1]["network"]["0.weight"].shape == (33, 7)


def ranks(tmp_path: Path, world: int) -> list[StepCheckpoints]:
    return [
        StepCheckpoints(f"file://{tmp_path}/checkpoints", rank=rank, world=world, token="group")
        for rank in range(world)
    ]


def test_replicated_tensors_are_shared_out(tmp_path):
    group = ranks(tmp_path, 3)
    for handle in [one.save_async(4, state(4)) for one in group]:
        handle.wait(60)
    found = StepCheckpoints(f"file://{tmp_path}/checkpoints").latest()
    assert found is not None
    assert same(found[1], state(4))
    sizes = [path.stat().st_size for path in files_of(tmp_path) if path.name.startswith("shard")]
    assert len(sizes) == 3


def test_a_rank_that_cannot_write_fails_the_save_on_all_and_nothing_stays(tmp_path):
    group = ranks(tmp_path, 2)
    for handle in [one.save_async(1, state(1)) for one in group]:
        handle.wait(60)

    class Full:
        """The place of one rank, whose disk is full."""

        def __init__(self, place) -> None:
            self._place = place

        def __getattr__(self, name: str):
            return getattr(self._place, name)

        def begin(self, name: str, token: str):
            attempt = self._place.begin(name, token)
            written = attempt.write

            def write(file: str, parts) -> None:
                if file.startswith("shard"):
                    raise OSError(28, "No space left on device")
                written(file, parts)

            attempt.write = write
            return attempt

    place = group[1]._place
    group[1]._place = Full(place)
    handles = [one.save_async(2, state(2)) for one in group]
    with pytest.raises(UnavailableError, match="rank 1 could not write its part"):
        handles[0].wait(60)
    with pytest.raises(UnavailableError, match="No space left on device"):
        handles[1].wait(60)
    group[1]._place = place
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-0000000001-00000"]
    for handle in [one.save_async(3, state(3)) for one in group]:
        handle.wait(60)


def test_a_rank_that_is_gone_is_waited_for_so_long_and_no_longer(tmp_path):
    checkpoints = ranks(tmp_path, 2)[0]
    checkpoints.peers_s = 0.3
    handle = checkpoints.save_async(1, state(1))
    with pytest.raises(UnavailableError, match=r"ranks \[1\] did not write their part"):
        handle.wait(60)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_ranks_that_hold_different_states_are_not_sealed(tmp_path):
    group = ranks(tmp_path, 2)
    one = {"a": torch.zeros(4), "b": torch.zeros(3)}
    other = {"a": torch.zeros(2), "b": torch.zeros(3)}
    handles = [group[0].save_async(1, other), group[1].save_async(1, one)]
    errors: list[RayplatError] = []
    for handle in handles:
        handle.ended_within(60)
        assert handle.error is not None
        errors.append(handle.error)
    assert isinstance(errors[0], IntegrityError) or "parts of" in errors[0].what
    assert StepCheckpoints(f"file://{tmp_path}/checkpoints").latest() is None


def test_two_attempts_at_one_step_never_mix(tmp_path):
    """Each group's shards are its own: what a dead group left is not taken for a living rank's."""
    uri = f"file://{tmp_path}/checkpoints"
    dead = StepCheckpoints(uri, rank=1, world=2, token="dead")
    dead.peers_s = 0.2
    with pytest.raises(RayplatError):
        dead.save_async(1, {"a": torch.zeros(4), "b": torch.zeros(4)}).wait(60)
    living = [StepCheckpoints(uri, rank=rank, world=2, token="living") for rank in (0, 1)]
    ones = {"a": torch.ones(4), "b": torch.ones(4)}
    for handle in [one.save_async(1, ones) for one in living]:
        handle.wait(60)
    found = living[0].latest()
    assert found is not None
    assert same(found[1], ones)


def test_the_pauses_between_looks_grow_and_end():
    begun, seen = threading.Event(), []
    for pause in writer._pauses(0.05):
        seen.append(pause)
        begun.wait(pause)
    assert seen == sorted(seen)
    assert 3 < len(seen) < 30
