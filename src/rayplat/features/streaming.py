"""Online values that follow the ingest: after each commit the new rows go to the views of that table.

Knows when to look and what to do when something does not answer; it does not know what is new
(`materialize` knows, by offsets) nor how rows become values.

A commit only says that there is something: the work is done on a thread of its own, so the ingest never
waits for the online store. Commits that come while the thread works are taken together by its next turn; the
lakehouse is the queue, and it has room. Progress stands in the online store by offsets, so whatever ends
this, a kill included, the next start goes on where the values stand.
"""

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rayplat.core.errors import ConflictError, NotFoundError, RayplatError, UnavailableError
from rayplat.core.events import Event, EventBus, SnapshotCommitted
from rayplat.core.project.project import Project
from rayplat.core.project.view import FeatureView
from rayplat.core.telemetry import counter, gauge, get_logger
from rayplat.features.materialize import MaterializeReport
from rayplat.features.online.collector import UNCOLLECTED

Bring = Callable[[Sequence[FeatureView]], Sequence[MaterializeReport]]
"""Brings views up to their sources' current snapshots; called on one thread only."""

_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 10.0


def followed(project: Project) -> list[FeatureView]:
    """The feature views of a project over tables that are fed by something, each kept once."""
    views = {
        view.kept_as: view
        for view in project.views
        if isinstance(view, FeatureView) and view.source.source is not None
    }
    return list(views.values())


class OnlineFollower:
    """Follows the commits of an ingest with the online values of views, from `start` to `close`.

    Args:
        views: to be kept up; those over other tables than the committed ones cost nothing.
        bring: does the work, as `materialize` does.
        bus: tells of commits.

    What does not answer (UnavailableError), and what another process changed meanwhile (ConflictError), is
    tried again, later and later. Any other error ends the following: `failed` says which, `close` raises it.
    """

    def __init__(self, views: Sequence[FeatureView], bring: Bring, bus: EventBus) -> None:
        self._views = views
        self._bring = bring
        self._changed = threading.Condition()
        # What was committed while nobody followed is caught up first.
        self._due: dict[str, float] = {view.source.name: time.time() for view in views}
        self._busy = False
        self._stop = False
        self._abort = threading.Event()
        self.failed: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name="online-follower", daemon=True)
        self._lag = gauge(
            "online_lag_seconds", "From a commit to its effect in the online values, of the last", ["table"]
        )
        self._failures = counter("online_restarts_total", "Times that the online values were tried again")
        bus.subscribe(SnapshotCommitted, self._committed)

    def start(self) -> "OnlineFollower":
        """Begin."""
        self._thread.start()
        return self

    def __enter__(self) -> "OnlineFollower":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RayplatError:
            if error is None:
                raise

    def settle(self, seconds: float) -> bool:
        """Wait until all that was committed before is in the online values; whether it came to that."""
        with self._changed:
            return (
                self._changed.wait_for(
                    lambda: self.failed is not None or not (self._due or self._busy), seconds
                )
                and self.failed is None
            )

    def close(self, seconds: float = 30.0) -> None:
        """Bring in what was committed before, and end.

        Args:
            seconds: how long that may take; what is left then, the next start brings in.

        Raises:
            RayplatError: what made the following end before.
        """
        self.settle(seconds)
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        self._abort.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self.failed is not None:
            raise self.failed

    def _committed(self, event: Event) -> None:
        """Called in the ingest's thread: it says what is due, and no more."""
        assert isinstance(event, SnapshotCommitted)
        if any(view.source.name == event.table for view in self._views):
            with self._changed:
                self._due.setdefault(event.table, event.at.timestamp())
                self._changed.notify_all()

    def _follow(self) -> None:
        failures = 0
        while self.failed is None:
            with self._changed:
                self._changed.wait_for(lambda: self._stop or self._due)
                if self._stop:
                    return
                due, self._due, self._busy = self._due, {}, True
            again = {table: since for table, since in due.items() if not self._turn(table, since)}
            failures = failures + 1 if again else 0
            with self._changed:
                self._busy = False
                self._due = {**self._due, **again}
                self._changed.notify_all()
            if again:
                self._abort.wait(min(_FIRST_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S))

    def _turn(self, table: str, since: float) -> bool:
        """Bring one table's views up; False where that must be tried again."""
        try:
            with UNCOLLECTED:
                self._bring([view for view in self._views if view.source.name == table])
        except NotFoundError:
            # The ingest has not made the table yet; its first commit comes.
            return True
        except (UnavailableError, ConflictError) as error:
            self._failures.inc()
            get_logger("features.streaming").warning("restart", table=table, reason=str(error))
            return False
        except BaseException as error:  # told by `close`
            self.failed = error
            get_logger("features.streaming").error("ended", table=table, exc_info=error)
            return True
        self._lag.labels(table).set(max(0.0, time.time() - since))
        return True
