"""Callers in a process of their own: as many as they are told to be, each on one connection that stays open.

Run: python benchmarks/replicas_load.py URL BODY, with a number of callers a line on standard input. Tells as
lines of JSON when a number began to ask, when each answering process was heard of first, every half a second
how many were answered and the 99th percentile of their times, and at the end how many were answered, how many
failed, and how many were told to ask again: as `rayplat.serve.client` does, a caller who gets 503 with
Retry-After asks again then. No other request is sent twice.
"""

import http.client
import json
import math
import sys
import threading
import time
from urllib.parse import urlsplit

PATIENCE_S = 30.0
SCALE = 1e-6
"""A model that tells its process gives its number, times this, as its logit."""


class Callers:
    def __init__(self, url: str, body: bytes) -> None:
        self._at = urlsplit(url)
        self._body = body
        self._wanted = 0
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._heard: set[int] = set()
        self._seconds: list[float] = []
        self.answered = self.failed = self.again = 0
        threading.Thread(target=self._tell, daemon=True).start()

    def become(self, count: int) -> None:
        self._wanted = count
        say(callers=count)
        while len(self._threads) < count:
            self._threads.append(threading.Thread(target=self._ask, args=(len(self._threads),), daemon=True))
            self._threads[-1].start()

    def _ask(self, place: int) -> None:
        peer = None
        while True:
            if place >= self._wanted:
                time.sleep(0.002)
                continue
            peer = peer or http.client.HTTPConnection(self._at.hostname or "", self._at.port, timeout=60)
            begin = time.perf_counter()
            try:
                answer, told = self._answer(peer, begin + PATIENCE_S)
            except (OSError, http.client.HTTPException) as error:
                peer.close()
                self._count(None, repr(error))
                continue
            self._count(told if answer.status == 200 else None, f"{answer.status} {told[:200]!r}")
            self._seconds.append(time.perf_counter() - begin)

    def _answer(self, peer: http.client.HTTPConnection, end: float) -> tuple[http.client.HTTPResponse, bytes]:
        while True:
            peer.request("POST", self._at.path, self._body)
            answer = peer.getresponse()
            told = answer.read()
            pause = answer.headers.get("retry-after", "")
            if answer.status != 503 or not pause.isdecimal() or time.perf_counter() + int(pause) > end:
                return answer, told
            with self._lock:
                self.again += 1
            time.sleep(int(pause))

    def _tell(self) -> None:
        while True:
            time.sleep(0.5)
            seconds, self._seconds = sorted(self._seconds), []
            if seconds:
                say(times=len(seconds), p99=seconds[int(len(seconds) * 0.99)])

    def _count(self, told: bytes | None, why: str) -> None:
        with self._lock:
            if told is None:
                self.failed += 1
                say(failure=why)
                return
            self.answered += 1
            number = process_of(told)
            if number not in self._heard:
                self._heard.add(number)
                say(process=number)


def process_of(told: bytes) -> int:
    value = json.loads(told)
    if isinstance(value, int):
        return value
    p = value["predictions"][0]["probability"]
    return round(math.log(p / (1 - p)) / SCALE)


def say(**told: object) -> None:
    print(json.dumps({"at": time.time(), **told}), flush=True)


if __name__ == "__main__":
    callers = Callers(sys.argv[1], sys.argv[2].encode())
    for line in sys.stdin:
        callers.become(int(line))
    callers.become(0)
    time.sleep(0.2)
    say(answered=callers.answered, failed=callers.failed, again=callers.again)
