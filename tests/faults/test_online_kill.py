"""A writer of the online store, killed at any moment and run again, gives the values of a clean run."""

import multiprocessing
import random
import time

import pytest

from rayplat.core.settings import Settings
from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.opening import open_online
from rayplat.features.serving import get_online_features
from tests.faults import online_writer
from tests.features.online import redis_server
from tests.features.worlds import hour

KILLS = 3


def values(store) -> list[object]:
    requests = [{"entity": f"e{i}"} for i in range(6)]
    found: list[object] = [store.views()]
    for at in (37, 48.3, 59.9, 61, 90):
        answered = get_online_features(store, online_writer.views(), requests, hour(at))
        found += [answered.frame.rows(), answered.provenance]
    return found


def come_to(store) -> int:
    return sum(progress.offsets["0"] for progress in store.views().values())


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.online_writer"])
    return context


@pytest.fixture(params=["lmdb", "redis"])
def url(request, tmp_path):
    if request.param == "lmdb":
        yield f"lmdb:///{tmp_path}/online"
        return
    process, address = redis_server.start(tmp_path)
    yield address
    process.terminate()
    process.wait()


def test_a_killed_writer_leaves_what_a_clean_run_completes(processes, url, tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    clean = LmdbOnlineStore(f"lmdb:///{tmp_path}/clean")
    online_writer.run(clean, seed)
    store = open_online(Settings(home=tmp_path, online=url))
    kills, reached = 0, []
    for attempt in range(20):
        mine, theirs = processes.Pipe()
        child = processes.Process(target=online_writer.main, args=(url, str(tmp_path), seed, theirs))
        child.start()
        assert mine.recv() == "ready"
        if kills < KILLS:
            # Somewhere in the next quarter of the work, and anywhere within a step of it.
            wanted = come_to(store) + rng.randrange(2_000)
            while child.is_alive() and come_to(store) < wanted:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.03))
            child.kill()
        child.join()
        kills += child.exitcode == -9
        reached.append(come_to(store))
        if child.exitcode == 0 and attempt >= KILLS:
            break
    print(f"killed {kills} times, having come to {reached}")
    assert kills >= 1
    assert child.exitcode == 0
    assert values(store) == values(clean)
    store.close()
    clean.close()
