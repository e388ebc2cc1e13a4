"""What the log is told of answers of the fast path.

Knows what the answers of a view share, and that it changes with the progress alone; it does not know the
log's bytes.
"""

import base64

import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.features.online.kept import encode_schema, kept
from rayplat.features.online.store import decode_progress
from rayplat.features.parity.journal import About, Entry
from rayplat.features.plan import plan


class Journaled:
    """The entries of one view.

    Args:
        view: the view.
    """

    def __init__(self, view: FeatureView) -> None:
        self._view = view
        self._plan = plan(view)

    def entry(self, standing: bytes, at_us: int, names: bytes, sizes: bytes, values: bytes) -> Entry:
        """The entry of one request; see `Entry`."""
        return Entry(self._view.name, standing, self.about, at_us, names, sizes, values)

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
