"""kill -9 at every stage of a save, a disk that is full, a file that may not grow: what was durable stays."""

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayplat.core.errors import UnavailableError
from rayplat.train.checkpoints.steps import StepCheckpoints
from tests.train.checkpoints.states import files_of, same, state

pytestmark = pytest.mark.timeout(180)

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["rayplat.train.checkpoints.steps", "tests.train.checkpoints.states"])
SIZE = 800_000  # 9.6 MB: more than one block
SMALL = 1000
SAVES = 3


def save_until_killed(folder: str, first: int, deadly: int, size: int, ranks: tuple[int, int]) -> None:
    """Save step after step, and write down what is durable; ends itself at the n-th call to the disk."""
    asked = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal asked
        named = any(isinstance(one, str | os.PathLike) and "checkpoints/" in str(one) for one in arguments)
        if named and event.startswith(("open", "os.", "shutil.")):
            asked += 1
            if asked == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    checkpoints = StepCheckpoints(
        f"file://{folder}/checkpoints", rank=ranks[0], world=ranks[1], token=f"from{first}"
    )
    checkpoints.peers_s = 0.5
    sys.addaudithook(watch)
    for step in range(first, first + SAVES):
        handle = checkpoints.save_async(step, state(step, size))
        assert handle.ended_within(60)
        if handle.error is None:
            with (Path(folder) / "durable").open("a") as file:
                file.write(f"{step}\n")


def start(folder: Path, first: int, deadly: int, *, ranks: tuple[int, int] = (0, 1), size: int = SIZE):
    process = _CONTEXT.Process(target=save_until_killed, args=(str(folder), first, deadly, size, ranks))
    process.start()
    return process


def check(folder: Path, size: int = SIZE) -> int:
    """What is found is at least what was durable, and whole. Returns its step."""
    durable = folder / "durable"
    at_least = (
        max((int(line) for line in durable.read_text().split()), default=-1) if durable.exists() else -1
    )
    found = StepCheckpoints(f"file://{folder}/checkpoints").latest()
    if found is None:
        assert at_least == -1
        return -1
    step, content = found
    assert step >= at_least
    assert same(content, state(step, size))
    return int(step)


def test_killed_at_everything_it_asks_of_the_disk(tmp_path):
    deadly, ended = 0, False
    while not ended:
        deadly += 1
        folder = tmp_path / str(deadly)
        folder.mkdir()
        process = start(folder, 0, deadly, size=SMALL)
        process.join(60)
        ended = process.exitcode == 0
        assert ended or process.exitcode == -signal.SIGKILL
        reached = check(folder, SMALL)
        if deadly % 8 == 0 or ended:  # and on it goes
            process = start(folder, reached + 1, -1, size=SMALL)
            process.join(60)
            assert check(folder, SMALL) == reached + SAVES
            kept = {
                path.relative_to(folder / "checkpoints").parts[0] for path in files_of(folder / "checkpoints")
            }
            assert len(kept) == 2, "what killed processes had left is gone"
    print(f"killed {deadly - 1} times")
    assert deadly > 20, "three saves ask the disk for more than that"


def test_killed_at_any_moment(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    first = killed = 0
    # Twelve kills, and as many more as it takes until one has struck behind a whole save.
    while killed < 12 or not first:
        left = set(tmp_path.glob("checkpoints/*.tmp-*"))  # by those that were killed before
        process = start(tmp_path, first, -1)
        until = time.monotonic() + 20
        while (
            not set(tmp_path.glob("checkpoints/*.tmp-*")) - left
            and time.monotonic() < until
            and process.is_alive()
        ):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.08 + 0.02 * killed))
        process.kill()
        process.join(60)
        killed += 1
        first = max(check(tmp_path) + 1, first)
        assert killed < 50, "no save was ever whole"
    process = start(tmp_path, first, -1)  # and on it goes
    process.join(60)
    assert check(tmp_path) == first - 1 + SAVES


def test_one_of_two_ranks_is_killed(tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    first = 0
    for _ in range(3):
        victim = chance.randrange(2)
        deadly = [chance.randrange(2, 12) if rank == victim else -1 for rank in (0, 1)]
        ranks = [start(tmp_path, first, deadly[rank], ranks=(rank, 2)) for rank in (0, 1)]
        for rank in ranks:
            rank.join(60)
        first = max(check(tmp_path), first) + SAVES
    ranks = [start(tmp_path, first, -1, ranks=(rank, 2)) for rank in (0, 1)]
    for rank in ranks:
        rank.join(60)
    assert check(tmp_path) == first + SAVES - 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 24 MiB, which holds two checkpoints and not three; only root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user cannot mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_takes_nothing_away(small_disk):
    checkpoints = StepCheckpoints(f"file://{small_disk}/checkpoints")
    for step in (1, 2):
        checkpoints.save_async(step, state(step, SIZE)).wait(60)
    before = files_of(small_disk)
    for step in (3, 4):
        with pytest.raises(
            UnavailableError, match=f"step {step} could not be written.*No space left on device"
        ):
            checkpoints.save_async(step, state(step, SIZE)).wait(60)
        assert files_of(small_disk) == before
    assert check_step(checkpoints) == 2
    (small_disk / "checkpoints" / "step-0000000001-00000" / "index.sealed").unlink()
    next((small_disk / "checkpoints" / "step-0000000001-00000").glob("shard*")).unlink()
    checkpoints.save_async(5, state(5, SIZE)).wait(60)
    assert check_step(checkpoints) == 5


def check_step(checkpoints: StepCheckpoints) -> int:
    found = checkpoints.latest()
    assert found is not None
    assert same(found[1], state(found[0], SIZE))
    return found[0]


def test_a_file_that_may_not_grow(tmp_path):
    checkpoints = StepCheckpoints(f"file://{tmp_path}/checkpoints")
    checkpoints.save_async(1, state(1, SIZE)).wait(60)
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, allowed[1]))
    try:
        with pytest.raises(UnavailableError, match="File too large"):
            checkpoints.save_async(2, state(2, SIZE)).wait(60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert check_step(checkpoints) == 1
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-0000000001-00000"]
