"""What Ray Serve's door answers with: the endpoint's own model, and others while they are loaded.

Knows which of them a request is for and that it is kept while it answers; it does not know HTTP.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from rayplat.features.server.faults import RefusedError
from rayplat.serve.batcher import Batcher
from rayplat.serve.front.plain import PlainExchange
from rayplat.serve.front.rooms import no_room
from rayplat.serve.front.stream import Streams
from rayplat.serve.multiplex.choices import Choice
from rayplat.serve.multiplex.chosen import Chosen
from rayplat.serve.multiplex.pool import Lease, Pool
from rayplat.serve.prediction_log import Log
from rayplat.serve.served import Served

Fetched = Callable[[str], Awaitable[object]]
"""Tells Ray Serve that a choice is asked for here, so that its routers prefer this replica for it."""


@dataclass(slots=True, eq=False)
class Side:
    """One model with what answers for it.

    Attributes:
        choice: its name; empty: it is the endpoint's own.
        streams: see `Streams`; made when the first stream is asked for.
    """

    served: Served
    exchange: PlainExchange
    batcher: Batcher
    choice: str = ""
    streams: Streams | None = None

    def streaming(self, log: Log) -> Streams | None:
        """Its streams; None where it does not answer in parts. On the loop that answers."""
        if self.streams is None and self.served.parts is not None:
            self.streams = Streams(self.served, log)
        return self.streams


class Sides:
    """See the module; used on one loop.

    Args:
        own: of the endpoint's own model.
        pool, choices: of the others; None: there are none.
        waited: see `Admission.waited`.
    """

    def __init__(
        self,
        served: Served,
        waited: Callable[[float], None],
        pool: Pool[Chosen] | None = None,
        choices: tuple[Choice, ...] = (),
        fetched: Fetched | None = None,
    ) -> None:
        self._waited = waited
        self.own = self._made(served, "")
        self._pool = pool
        self._choices = {choice.name: choice for choice in choices}
        self._fetched = fetched
        self._sides: dict[Chosen, Side] = {}

    @property
    def choices(self) -> Mapping[str, Choice]:
        """What may be asked for beside the endpoint's own."""
        return self._choices

    @contextlib.asynccontextmanager
    async def of(self, choice: str | None) -> AsyncIterator[Side]:
        """The side of a choice, loaded first where it is not, and kept while it is in use.

        Raises:
            RefusedError: 404, there is none of this name.
            NotLoadedError: it cannot be loaded.
        """
        if choice is None:
            yield self.own
            return
        endpoint = self.own.served.predictor.endpoint
        if self._pool is None:
            raise no_room(choice, endpoint)
        if choice not in self._choices:
            raise RefusedError(404, f"{endpoint!r} has no model or version {choice[:100]!r}")
        if self._fetched is not None:
            await self._fetched(choice)
        lease = await _lease(self._pool, choice)
        try:
            yield self._side(lease.value, choice)
        finally:
            lease.done()

    def close(self) -> None:
        """Answer what was begun, and load nothing more."""
        self.own.batcher.close()
        if self._pool is not None:
            self._pool.close()

    def _side(self, chosen: Chosen, choice: str) -> Side:
        side = self._sides.get(chosen)
        if side is None:
            side = self._sides[chosen] = made = self._made(chosen.served, choice)

            def closed() -> None:
                self._sides.pop(chosen, None)
                made.batcher.close()

            chosen.closing.append(closed)
        return side

    def _made(self, served: Served, choice: str) -> Side:
        # While its one thread predicts, the event loop reads the next bodies and the log commits.
        batcher = Batcher(served.form, served.predictor.answer, self._waited)
        return Side(served, PlainExchange(served), batcher, choice)


async def _lease(pool: Pool[Chosen], choice: str) -> Lease[Chosen]:
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Lease[Chosen]] = loop.create_future()

    def told(lease: Lease[Chosen] | Exception) -> None:
        if found.done():  # who asked has gone away
            if isinstance(lease, Lease):
                lease.done()
        elif isinstance(lease, Exception):
            found.set_exception(lease)
        else:
            found.set_result(lease)

    def heard(lease: Lease[Chosen] | Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(told, lease)

    pool.ask(choice, heard)
    return await found
