"""The shortest way from a key to its values: no frame, no expression, no copy beyond the stored bytes.

Knows when the head of an entity answers as it stands; it does not know what to do with values (`head` and
`layout` tell how they are read), nor requests.
"""

import struct
from collections.abc import Sequence

from rayplat.core.project.view import FeatureView
from rayplat.features.online.answers import blobs, opened
from rayplat.features.online.head import NEVER
from rayplat.features.online.store import OnlineStore
from rayplat.features.plan import plan

_EVENT_AND_VISIBLE = struct.Struct("<q32xq").unpack_from
_EVENT_AT = 8


class Lookup:
    """Answers for one view, prepared once and asked often; safe to use from many threads.

    Args:
        online: the store.
        view: the view.

    Raises:
        NotFoundError: the view was never materialized.
    """

    def __init__(self, online: OnlineStore, view: FeatureView) -> None:
        self._online = online
        self.plan = plan(view)
        self.progress, self.kept = online.read(lambda reader: opened(reader, self.plan))
        self._ttl = self.plan.ttl_us
        self._windowed = bool(self.plan.windows)

    def blobs(self, entities: Sequence[bytes], at: int) -> list[bytes | None]:
        """For each entity the head that answers, with values and text; None where nothing is known.

        Args:
            entities: names of entities (`keys.entity_key`).
            at: the time of the question in microseconds.

        Raises:
            UserError: `at` is too far behind an entity's newest row.
        """
        if self._windowed:
            return self._exactly(entities, at)
        found = self._online.heads(self.kept.key, entities)
        oldest = NEVER if self._ttl is None else at - self._ttl
        for i, data in enumerate(found):
            if data is not None:
                event, visible = _EVENT_AND_VISIBLE(data, _EVENT_AT)
                if at < visible:
                    return self._exactly(entities, at)
                if event < oldest:
                    found[i] = None
        return found

    def _exactly(self, entities: Sequence[bytes], at: int) -> list[bytes | None]:
        """With all that a question in the past, or a window, needs."""
        return self._online.read(lambda reader: blobs(reader, self.plan, entities, at))


def lookup(
    online: OnlineStore, views: Sequence[FeatureView], entities: Sequence[Sequence[bytes]], at: int
) -> list[list[bytes | None]]:
    """The answers of several views, each to its own entities; see `Lookup`."""
    return [Lookup(online, view).blobs(names, at) for view, names in zip(views, entities, strict=True)]
