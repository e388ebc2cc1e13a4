"""The indexes of a platform: built of a pinned snapshot, found again by definition and snapshot, removed.

Knows which index answers for which view at which snapshot; it does not know how it is made or asked.
"""

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.view import FeatureView
from rayplat.core.settings import Settings
from rayplat.features.index import files
from rayplat.features.index.built import Index, build, indexable
from rayplat.features.index.growth import added, extended
from rayplat.features.lake import Lake, pin, read_pinned
from rayplat.features.plan import plan

_OPEN = 16


@dataclass(frozen=True, slots=True)
class KeptIndex:
    """An index that is durable.

    Attributes:
        view: the name of the view that it was built for.
        table: the source.
        snapshot_id: its snapshot.
        digest: of the view's definition.
        bytes: on disk.
        folder: where it is.
    """

    view: str
    table: str
    snapshot_id: int
    digest: str
    bytes: int
    folder: Path


class Indexes:
    """Indexes in a folder; several processes may use it at the same time.

    Args:
        folder: a local one; see `of` for the platform's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[Path, Index] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> "Indexes":
        """The indexes of a platform, beside its local state."""
        return cls(settings.home / "indexes")

    def build(self, view: FeatureView, lake: Lake) -> KeptIndex:
        """Build the index of a view at the current snapshot of its source, or find it.

        Where there is one of an earlier snapshot, and rows were only appended since, it is extended by those.

        Raises:
            UserError: the view cannot have an index, or its source has no rows yet.
            NotFoundError: the source does not exist.
        """
        reason = indexable(view)
        if reason:
            raise UserError(f"view {view.name!r} cannot have an index: {reason}", "ask it without one")
        name = view.source.name
        snapshots = pin(lake, [name])
        if name not in snapshots:
            raise UserError(f"table {name!r} was never written to", "ingest first, then build the index")
        folder = self._place(view, snapshots[name])
        if files.about(folder) is None:
            # What an earlier format has left there would be in the way.
            shutil.rmtree(folder, ignore_errors=True)
            prepared = plan(view)
            made = self._extended(view, lake, snapshots[name])
            if made is None:
                made = build(view, read_pinned(lake, name, prepared.columns, snapshots))
            about = {
                "view": view.name,
                "table": name,
                "snapshot_id": snapshots[name],
                "digest": prepared.digest,
                "polars": pl.__version__,
            }
            files.write(made, folder, about)
        return self._describe(folder)

    def _extended(self, view: FeatureView, lake: Lake, snapshot_id: int) -> Index | None:
        """The index at a snapshot, made of one of an earlier one; None where there is none that serves."""
        table, digest = lake.table(view.source.name), plan(view).digest
        earlier = [told.snapshot_id for told in table.history()]
        kept = {index.snapshot_id: index for index in self.all() if index.digest == digest}
        for since in reversed(earlier):
            if since not in kept or since == snapshot_id:
                continue
            more = added(table, view, since, snapshot_id)
            index = files.load(kept[since].folder, ranks=True)
            return None if more is None or index is None else extended(index, view, more)
        return None

    def find(self, view: FeatureView, snapshot_id: int | None) -> Index | None:
        """The index of a view at a snapshot of its source; None where nobody has built it.

        Raises:
            IntegrityError: its files are not what was written.
        """
        if snapshot_id is None or indexable(view):
            return None
        folder = self._place(view, snapshot_id)
        with self._lock:
            found = self._opened.get(folder)
            if found is not None and folder.exists():
                return found
            loaded = files.load(folder)
            self._opened.pop(folder, None)
            if loaded is not None:
                while len(self._opened) >= _OPEN:
                    self._opened.pop(next(iter(self._opened)))
                self._opened[folder] = loaded
            return loaded

    def all(self) -> list[KeptIndex]:
        """All indexes, sorted by table, view and snapshot."""
        folders = self._folder.glob("[!.]*") if self._folder.exists() else ()
        kept = [self._describe(folder) for folder in folders if files.about(folder) is not None]
        return sorted(kept, key=lambda index: (index.table, index.view, index.snapshot_id))

    def verify(self, kept: KeptIndex) -> None:
        """Read all bytes of an index.

        Raises:
            IntegrityError: they are not what was written.
        """
        files.verify(kept.folder)

    def remove(self, kept: KeptIndex) -> None:
        """Delete an index; who has it open reads on."""
        with self._lock:
            self._opened.pop(kept.folder, None)
        # Without its name nobody finds it, even where the deletion stops half way.
        gone = kept.folder.parent / f".{kept.folder.name}"
        kept.folder.rename(gone)
        shutil.rmtree(gone)

    def remove_stale(self, current: Mapping[str, int]) -> list[KeptIndex]:
        """Delete the indexes of other snapshots than the current ones.

        Args:
            current: the snapshot by table, as `lake.pin` gives it; other tables' indexes stay.

        Returns:
            What was deleted.
        """
        stale = [kept for kept in self.all() if current.get(kept.table, kept.snapshot_id) != kept.snapshot_id]
        for kept in stale:
            self.remove(kept)
        files.sweep(self._folder)
        return stale

    def _place(self, view: FeatureView, snapshot_id: int) -> Path:
        return self._folder / f"{plan(view).digest[:32]}-{snapshot_id}"

    def _describe(self, folder: Path) -> KeptIndex:
        about = files.about(folder)
        assert about is not None  # asked before, or just written
        size = sum(path.stat().st_size for path in folder.iterdir())
        return KeptIndex(about["view"], about["table"], about["snapshot_id"], about["digest"], size, folder)
