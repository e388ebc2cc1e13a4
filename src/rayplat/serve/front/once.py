"""Requests with a key, at the front: answered once, or told what was answered before.

Knows which reply follows from what is known of a key; it does not know how a request is answered.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from rayplat.features.server.faults import PROBLEM, problem
from rayplat.serve.front.reply import JSON, Reply, reply_to
from rayplat.serve.keyed import BUSY, MISMATCH, RETRY_AFTER_S, Found, Keyed, KeyedRequests
from rayplat.serve.log.idempotency import Busy, Claimed, Kept

T = TypeVar("T")
Told = Callable[[Reply], None]
Keep = Callable[[bytes | None, Callable[[bytes | Exception], None]], None]
"""Keeps an answer under its key (None: lets the key be used again), then tells, on the loop, what is kept."""
_BUSY = Reply(problem(409, BUSY), 409, PROBLEM, b"retry-after: %d\r\n" % RETRY_AFTER_S)
_MISMATCH = Reply(problem(422, MISMATCH), 422, PROBLEM)


class Once:
    """The keys of one event loop; used on it only.

    Args:
        requests: shared with the other doors of the replica.
        count: told the status of each reply that is not the work's.
    """

    def __init__(self, requests: KeyedRequests, count: Callable[[int], None]) -> None:
        self._requests = requests
        self._count = count
        self._loop = asyncio.get_running_loop()

    def ask(self, one: Keyed, work: Callable[[Told], None], told: Told, kind: bytes = JSON) -> None:
        """Answer a request under its key.

        Args:
            kind: the content type of its answer.
            work: called where there is no answer yet; tells its reply once, on the loop.
            told: hears the reply, on the loop.
        """

        def begin(claimed: Claimed) -> None:
            work(lambda reply: self._settle(claimed, reply, told))

        self._claim(one, begin, told, kind)

    def stream(self, one: Keyed, work: Callable[[Told, Keep], None], told: Told, kind: bytes) -> None:
        """Answer a request under its key in parts.

        Args:
            work: called where there is no answer yet; tells a problem, or a reply whose stream is kept.
            kind: the content type of its answer.
        """

        def begin(claimed: Claimed) -> None:
            def keep(whole: bytes | None, then: Callable[[bytes | Exception], None]) -> None:
                if whole is None:
                    self._then(lambda: self._requests.give_up(claimed), lambda _: then(b""))
                else:
                    self._then(lambda: self._requests.settle(claimed, whole), then)

            work(told, keep)

        self._claim(one, begin, told, kind)

    def _claim(self, one: Keyed, begin: Callable[[Claimed], None], told: Told, kind: bytes) -> None:
        """Begin a request whose key is free; tell what is known of any other."""

        def found(what: Found | Exception) -> None:
            if isinstance(what, Claimed):
                try:
                    begin(what)
                # Whatever it is, the key must not stay claimed.
                except Exception as error:
                    self._settle(what, reply_to(error), told)
                return
            reply = reply_to(what) if isinstance(what, Exception) else known(what, kind)
            self._count(reply.status)
            told(reply)

        self._then(lambda: self._requests.claim(one), found)

    def _settle(self, claimed: Claimed, reply: Reply, told: Told) -> None:
        def kept(answer: bytes | Exception) -> None:
            told(reply_to(answer) if isinstance(answer, Exception) else replace(reply, body=answer))

        if reply.status == 200:
            self._then(lambda: self._requests.settle(claimed, reply.body), kept)
        else:
            # Told only when the key is free, so that who asks again at once is not told to wait.
            self._then(lambda: self._requests.give_up(claimed), lambda _: told(reply))

    def _then(self, begin: Callable[[], "Future[T]"], told: Callable[[T | Exception], None]) -> None:
        """Tell what a future gives, or its error, on the loop."""

        def done(future: "Future[T]") -> None:
            if self._loop.is_closed():
                return
            error = future.exception()
            if isinstance(error, Exception):
                self._loop.call_soon_threadsafe(told, error)
            else:
                self._loop.call_soon_threadsafe(told, future.result())

        try:
            future = begin()
        except Exception as error:
            told(error)
        else:
            future.add_done_callback(done)


def known(found: Found, kind: bytes = JSON) -> Reply:
    """What is told of a key that could not be claimed.

    Args:
        kind: the content type of the answer that was kept.
    """
    if isinstance(found, Kept):
        return Reply(found.answer, kind=kind)
    return _BUSY if isinstance(found, Busy) else _MISMATCH
