"""What trials keep so that they can go on: one small state each, durable, under one URI.

Knows where a trial's state lies and that a newer one takes the place of an older; it does not know what is
in it.
"""

from dataclasses import dataclass

from rayplat.registry.folder import open_folders

_STATE, _VALUE, _PREFIX = "state", "value", "state-"


@dataclass(frozen=True, slots=True)
class KeptStates:
    """The states of a study's trials.

    Attributes:
        uri: `file://…`, `s3://…` or `gs://…`, seen by every worker; empty: nothing is kept.
    """

    uri: str = ""

    def of(self, number: int | None) -> str:
        """The URI of a trial's own folder; empty where nothing is kept."""
        return "" if number is None or not self.uri else f"{self.uri.rstrip('/')}/{number}"

    def forget(self) -> None:
        """Remove all of them; a trial that goes on after that begins again."""
        if self.uri:
            store, path = open_folders(self.uri)
            store.remove(path)


def save_state(uri: str, step: int, state: bytes, value: float) -> None:
    """Keep a state, and the value reported with it, under a trial's URI.

    Durable when this returns, and the older ones are gone.
    """
    store, path = open_folders(uri)
    older = store.folders(path)
    name = f"{_PREFIX}{step:09d}"
    if name in older:  # the trial runs again from an older state
        store.remove(f"{path}/{name}")
    store.publish(f"{path}/{name}", {_STATE: state, _VALUE: value.hex().encode()}, _STATE)
    for one in older:
        if one != name:
            store.remove(f"{path}/{one}")


def load_state(uri: str) -> tuple[int, float, bytes] | None:
    """The newest state under a trial's URI: step, value and state; None where there is none."""
    if not uri:
        return None
    store, path = open_folders(uri)
    for name in reversed(store.folders(path)):
        folder = f"{path}/{name}"
        if name.startswith(_PREFIX) and store.exists(folder, _STATE):
            value = float.fromhex(store.read(folder, _VALUE).decode())
            return int(name.removeprefix(_PREFIX)), value, store.read(folder, _STATE)
    return None
