"""The recorder: a process that looks at the platform's cluster every few seconds, and writes it down.

Run: python -m rayplat.cluster.recorder (the supervisor does)

Knows when a look is worth a transaction; it does not know what is made of the history. A cluster that
does not answer for a moment is asked again: the supervisor may be starting its control store.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rayplat.cluster.head import recorded_head
from rayplat.cluster.history import REFRESH_S, ClusterHistory
from rayplat.cluster.observe import Look, Observer
from rayplat.cluster.spec import ClusterSpec, load_spec, node_types
from rayplat.cluster.token import use_token
from rayplat.cluster.waiting import Shape, why_waiting
from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.settings import Settings
from rayplat.core.settings_sources import load_settings
from rayplat.core.telemetry import get_logger


def shapes(look: Look, spec: ClusterSpec, simulated: bool) -> list[Shape]:
    """What there is and may be, by node type: those of the file where they come and go, else what is seen."""
    running: dict[str, int] = {}
    largest: dict[str, dict[str, float]] = {}
    for node in look.alive:
        running[node.node_type] = running.get(node.node_type, 0) + 1
        largest[node.node_type] = dict(node.resources)
    found = []
    for node_type in node_types(spec, stand_in=False)[1:] if simulated else ():
        count = running.pop(node_type.name, 0)
        starting = look.starting.get(node_type.name, 0)
        found.append(Shape(node_type.name, node_type.resources, count, starting, node_type.max))
    return [*[Shape(name, largest[name], count, 0, count) for name, count in running.items()], *found]


def reasons(look: Look, spec: ClusterSpec, simulated: bool) -> dict[int, str]:
    """Why each demand of a look waits, by its place."""
    if not look.demands:
        return {}
    known = shapes(look, spec, simulated)
    return {i: why_waiting(demand.resources, known) for i, demand in enumerate(look.demands)}


class Recorder:
    """Looks and writes.

    Args:
        settings: the platform.
        observer: looks at its cluster.
        history: takes what was seen.
    """

    def __init__(self, settings: Settings, observer: Observer, history: ClusterHistory) -> None:
        self._settings = settings
        self._observer = observer
        self._history = history
        self._written: tuple[Any, float] | None = None
        self._spec = load_spec(Path(settings.ray.spec))
        head = recorded_head(settings)
        self._simulated = head is not None and head.simulated

    def step(self) -> Look:
        """Look once, and write it down if it tells something new or the last time is long ago.

        Raises:
            UnavailableError: the control store or the database does not answer.
        """
        look = self._observer.look()
        why = reasons(look, self._spec, self._simulated)
        told = (
            [(node.node_id, node.ended) for node in look.nodes],
            [(use.node_id, use.owner, dict(use.resources)) for use in look.uses],
            [(dict(d.resources), d.count) for d in look.demands],
            why,
        )
        now = time.monotonic()
        if self._written is None or self._written[0] != told or now - self._written[1] >= REFRESH_S:
            self._history.record(place_of(self._settings), look, why)
            self._written = (told, now)
        return look


def place_of(settings: Settings) -> str:
    """What tells this platform's own cluster from others in the same database."""
    return str(settings.home)


def main() -> None:
    """Record the cluster that `ray.address` names, else the platform's own head while it is written down."""
    settings = load_settings(cwd=Path("/"))
    address = settings.ray.address
    if not address:
        head = recorded_head(settings)
        if head is None:
            return
        address = head.address
        use_token(settings)
    log = get_logger("cluster.recorder")
    recorder = Recorder(settings, Observer(address), ClusterHistory(settings))
    began = datetime.now(UTC)
    log.info("recording", address=address, since=began.isoformat())
    while True:
        try:
            recorder.step()
        except UnavailableError as error:
            log.warning("not seen", why=error.what)
        except RayplatError as error:
            log.error("not recorded", why=error.what)
        time.sleep(settings.ray.record_s)


if __name__ == "__main__":
    main()
