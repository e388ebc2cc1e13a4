"""Ends what a benchmark has started, should the benchmark itself be killed.

Knows that a process is of this benchmark by a mark in its environment, which its children inherit; it does
not know what they are. Run by benchmarks/recovery.py: `recovery_guard.py MARK`, with a pipe that ends with
the benchmark as its input.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import time

import psutil

MARK = "RECOVERY_BENCHMARK"
_ROUNDS = 20
_PAUSE_S = 0.25


def begin_guard() -> subprocess.Popen[bytes]:
    """Mark this process, and all that it starts from now on, and have them ended when it has ended."""
    plain = dict(os.environ)
    plain.pop(MARK, None)
    os.environ[MARK] = secrets.token_hex(8)
    command = [sys.executable, __file__, os.environ[MARK]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=plain, start_new_session=True)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have a mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def end_marked(mark: str) -> None:
    """End them, and those that they start meanwhile."""
    for _ in range(_ROUNDS):
        there = marked(mark)
        if not there:
            return
        for process in there:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    while sys.stdin.buffer.read(1):
        continue
    end_marked(sys.argv[1])
