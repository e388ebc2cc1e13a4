"""What the log is told of answers of the fast path.

Knows what the answers of a view share, and that it changes with the progress alone; it does not know the
log's bytes.
"""

import base64
from collections.abc import Sequence

import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.features.online.kept import encode_schema, kept
from rayplat.features.online.store import decode_progress
from rayplat.features.parity.journal import About, Entry
from rayplat.features.plan import plan
from rayplat.features.server.remembered import Remembered


class Journaled:
    """The entries of one view.

    Args:
        view: the view.
    """

    def __init__(self, view: FeatureView) -> None:
        self._view = view
        self._plan = plan(view)

    def entry(self, known: Remembered, at_us: int, places: Sequence[int]) -> Entry:
        """The entry of one request, whose answers stand at places of what is known."""
        return Entry(self._view.name, self.about, at_us, known, places)

    def about(self, standing: bytes) -> About:
        """What answers share that were read at a standing."""
        progress = decode_progress(standing)
        layout = kept(self._plan, progress).layout
        return About(
            view=self._view.name,
            digest=self._plan.digest,
            asks=tuple(self._view.asks),
            features=tuple(self._view.names),
            schema=base64.b64encode(encode_schema(pl.DataFrame(schema=layout.schema))).decode(),
            snapshot_id=progress.snapshot_id,
            offsets=dict(progress.offsets),
        )
