import os
import subprocess
import sys
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest

from rayplat.core.errors import UnavailableError
from rayplat.serve.log.frames import frame, scan
from rayplat.serve.log.local import LocalLog
from rayplat.serve.log.rows import payload, records_of
from rayplat.serve.log.slot import hold, identity, segments, slots, waiting_bytes
from tests.serve.logs import record

_ROOT = Path(__file__).parents[3]


def _kept(folder):
    found = [
        r.prediction_id
        for slot in slots(folder)
        for s in segments(slot)
        for p in scan(s.path.read_bytes()).payloads
        for r in records_of(p)
    ]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.parametrize("sync", ["disk", "process"])
def test_many_threads_are_told_when_their_records_are_kept(tmp_path, sync):
    flushed = []

    def flush(number):
        os.fdatasync(number)
        flushed.append(number)

    log = LocalLog(tmp_path, sync=sync, flush=flush, file_bytes=20_000)
    records, futures, lock = [record(i) for i in range(400)], [], threading.Lock()

    def ask(part):
        for one in part:
            future = log.submit([one])
            with lock:
                futures.append(future)

    threads = [threading.Thread(target=ask, args=(records[i::8],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait(futures, 30)
    assert all(f.exception() is None for f in futures)
    assert _kept(tmp_path) == {r.prediction_id for r in records}
    assert len(segments(tmp_path / "0")) > 3
    assert bool(flushed) == (sync == "disk")
    assert log.find(records[7].prediction_id) == records[7]
    assert log.find("prd_" + "0" * 32) is None
    log.close()


def test_an_answer_waits_for_the_flush_and_shares_it(tmp_path):
    begun, go, flushes = threading.Event(), threading.Event(), []

    def flush(number):
        flushes.append(number)
        begun.set()
        assert go.wait(10)

    log = LocalLog(tmp_path, flush=flush)
    first = log.submit([record()])
    assert begun.wait(10)
    rest = [log.submit([record()]) for _ in range(20)]
    assert not first.done()
    assert not any(f.done() for f in rest)
    go.set()
    wait([first, *rest], 10)
    assert len(flushes) == 2
    log.close()


def test_a_flush_that_fails_vouches_for_nothing_and_the_log_goes_on_in_another_file(tmp_path):
    broken = [True]

    def flush(_number):
        if broken[0]:
            raise OSError(5, "Input/output error")

    log = LocalLog(tmp_path, flush=flush)
    with pytest.raises(UnavailableError, match="Input/output"):
        log.append([record()])
    broken[0] = False
    kept = record()
    log.append([kept])
    found = segments(tmp_path / "0")
    assert len(found) == 2
    assert found[1].start == found[0].end()
    assert log.find(kept.prediction_id) == kept
    log.close()


def test_a_log_with_too_much_waiting_refuses(tmp_path):
    now = 0.0
    log = LocalLog(tmp_path, sync="process", file_bytes=1000, most_waiting=5000, clock=lambda: now)
    errors = [log.submit([record()]).exception() for _ in range(100)]
    told = [error for error in errors if error is not None]
    assert all(isinstance(error, UnavailableError) for error in told)
    assert "wait for the lakehouse" in told[0].what
    size = len(frame(payload([record()])))
    assert (100 - len(told)) * size == waiting_bytes(tmp_path / "0") < 5000 + 1000 + 2 * size
    assert errors[-len(told) :] == told, "once it refuses, it refuses until something was shipped"
    for segment in segments(tmp_path / "0")[:-1]:
        segment.path.unlink()
    assert log.submit([record()]).exception() is not None, "it does not look at every request"
    now = 1.0
    assert log.submit([record()]).exception() is None
    log.close()


def test_closing_finishes_what_was_submitted_and_refuses_the_rest(tmp_path):
    log = LocalLog(tmp_path)
    futures = [log.submit([record(i)]) for i in range(50)]
    log.close()
    log.close()
    assert all(f.done() and f.exception() is None for f in futures)
    with pytest.raises(UnavailableError, match="closed"):
        log.submit([record()])


def test_processes_have_slots_of_their_own_and_a_dead_ones_is_taken_over(tmp_path):
    first, second = hold(tmp_path), hold(tmp_path)
    assert (first.folder.name, second.folder.name) == ("0", "1")
    first.write(b"torn")
    first.close()
    third = hold(tmp_path)
    third.begin()
    assert third.folder.name == "0"
    assert [s.start for s in segments(third.folder)] == [0, 4]
    second.close()
    third.close()


def test_a_killed_process_lets_go_of_its_slot(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from rayplat.serve.log.slot import hold;"
        "slot = hold(Path(sys.argv[1])); slot.begin(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60, cwd=_ROOT)
    slot = hold(tmp_path)
    assert slot.folder.name == "0"
    slot.close()


def test_a_folder_has_one_name_for_ever(tmp_path):
    names, threads = [], []
    for _ in range(8):
        thread = threading.Thread(target=lambda: names.append(identity(tmp_path)))
        threads.append(thread)
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == 1
    assert len(names) == 8
    (tmp_path / "identity").write_text("../../etc")
    with pytest.raises(OSError, match="no name of a log"):
        identity(tmp_path)


def test_a_write_that_fails_refuses_also_who_waits_for_the_flush_of_that_file(tmp_path):
    """A flush of the next file says nothing of what was written to the one before."""
    begun, go = threading.Event(), threading.Event()

    def flush(number):
        begun.set()
        assert go.wait(10)
        os.fdatasync(number)

    log = LocalLog(tmp_path, flush=flush)
    first = log.submit([record()])
    assert begun.wait(10)
    second = log.submit([record()])
    slot = log._slot
    os.dup2(os.open("/dev/full", os.O_WRONLY), slot.file)
    third = log.submit([record()])
    go.set()
    assert first.result(10) is None, "its own flush had begun on its own file"
    for refused in (second, third):
        assert isinstance(refused.exception(10), UnavailableError)
    kept = record()
    log.append([kept])
    assert log.find(kept.prediction_id) == kept
    log.close()
