"""The supervisor: a process that starts again what dies of a head, its control store above all.

Run: python -m rayplat.cluster.local.supervisor (`rayplat up` does)

Knows how to notice a death at once and at no cost (it sleeps on the kernel's process descriptors), and
to start the dead one at the same address over the same storage; it does not know what Ray keeps there.
It ends when the head's raylet has ended: then there is nothing left to lead.
"""

import contextlib
import os
import select
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rayplat.cluster.head import RECORDER, SUPERVISOR, Head, recorded_head, write_head
from rayplat.cluster.local.components import (
    STORE,
    Component,
    find_components,
    read_components,
    restart,
    write_components,
)
from rayplat.cluster.local.supervision import GiveUp, decide
from rayplat.cluster.processes import ProcessRecord, running, start_process
from rayplat.cluster.token import client_environment
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import as_environment
from rayplat.core.settings_sources import load_settings

_POLL_S = 10.0
_RAYLET = "raylet"


def ensure_supervisor(settings: Settings) -> ProcessRecord:
    """The running supervisor of this platform, started if there is none."""
    found = running(settings, SUPERVISOR)
    if found is not None:
        return found
    argv = [sys.executable, "-m", "rayplat.cluster.local.supervisor"]
    return start_process(settings, SUPERVISOR, argv, as_environment(settings))


class Supervisor:
    """Watches one head.

    Args:
        settings: the platform.
        head: as it is written down.
        components: what is started again when it dies.
    """

    def __init__(self, settings: Settings, head: Head, components: Iterable[Component]) -> None:
        self.settings = settings
        self.head = head
        self.components = {one.name: one for one in components}
        self.deaths: dict[str, list[float]] = {}
        self._watched: dict[int, str] = {}
        self._poll = select.poll()

    def run(self) -> None:
        """Watch until the head's raylet has ended."""
        self._watch(ProcessRecord(_RAYLET, self.head.raylet, self.head.raylet_started))
        for component in list(self.components.values()):
            self._watch(component.process)
        self._watch(self._recorder())
        while self.head.has_raylet():
            for descriptor, _ in self._poll.poll(_POLL_S * 1000):
                self._lost(self._unwatch(descriptor))

    def _watch(self, process: ProcessRecord) -> None:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._lost(process.name)
            return
        if not process.alive():  # it had ended before, and its id is another's
            os.close(descriptor)
            self._lost(process.name)
            return
        self._watched[descriptor] = process.name
        self._poll.register(descriptor, select.POLLIN)

    def _unwatch(self, descriptor: int) -> str:
        self._poll.unregister(descriptor)
        os.close(descriptor)
        return self._watched.pop(descriptor)

    def _lost(self, name: str) -> None:
        _reap()
        if name == _RAYLET:
            return
        now = time.time()
        deaths = self.deaths.setdefault(name, [])
        deaths.append(now)
        decision = decide(deaths, now)
        if isinstance(decision, GiveUp):
            _tell(f"{name} is left dead: {decision.why}")
            return
        time.sleep(decision.after_s)
        if self.head.has_raylet():
            self._watch(self._recorder() if name == RECORDER else self._revived(name))

    def _revived(self, name: str) -> ProcessRecord:
        self.components[name] = restart(self.settings, self.components[name])
        process = self.components[name].process
        _tell(f"{name} died, and was started again as process {process.pid}")
        if name == STORE:
            self._led_by(process)
        write_components(self.settings, list(self.components.values()))
        return process

    def _led_by(self, store: ProcessRecord) -> None:
        self.head = replace(self.head, pid=store.pid, started=store.started)
        write_head(self.settings, self.head)

    def _recorder(self) -> ProcessRecord:
        found = running(self.settings, RECORDER)
        if found is not None:
            return found
        argv = [sys.executable, "-m", "rayplat.cluster.recorder"]
        variables = {**as_environment(self.settings), **client_environment(self.settings)}
        return start_process(self.settings, RECORDER, argv, variables)


def _reap() -> None:
    """Take the exit codes of children that have ended, so that they do not stay as zombies."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def _tell(line: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")
    sys.stderr.flush()


def main() -> None:
    """Watch the platform's head that the settings name."""
    settings = load_settings(cwd=Path("/"))
    head = recorded_head(settings)
    if head is None or not head.has_raylet():
        _tell("no head runs: there is nothing to watch")
        return
    components = read_components(settings)
    if not components:
        components = find_components(settings, head)
        write_components(settings, components)
    _tell(f"watching {', '.join(one.name for one in components)} of {head.address}")
    Supervisor(settings, head, components).run()
    _tell("the head has ended")


if __name__ == "__main__":
    main()
