"""Background processes of one platform: started, written down, found again and stopped by their ids.

Knows the records in the run folder and the marker in each process's environment; it does not know
what a process is for. A process id alone is never trusted: it counts only with its start time.
"""

import contextlib
import fcntl
import hashlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import psutil

from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings

MARKER = "RAYPLAT_PLATFORM"
_GRACE_S = 3.0
_SETTLE_TRIES = 100


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that was started here. `started` is its start time, seconds since the epoch."""

    name: str
    pid: int
    started: float

    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


def platform_id(settings: Settings) -> str:
    """What tells the processes of this platform from those of others: a digest of its home."""
    return hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]


def child_environment(settings: Settings, extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with the platform's marker and `extra`; for children only."""
    from rayplat.core.settings_environment import process_environment

    return {**process_environment(), MARKER: platform_id(settings), **extra}


@contextlib.contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Hold the platform's lock, so that two commands do not start or stop it at the same time."""
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.run_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start_process(
    settings: Settings, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None
) -> ProcessRecord:
    """Start a process in a session of its own; its output goes to `<run_dir>/<name>.log`.

    Raises:
        UnavailableError: the process could not be started.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with (settings.run_dir / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                close_fds=True,
                env=child_environment(settings, dict(env or {})),
            )
        record = ProcessRecord(name, child.pid, _settled(child.pid).create_time())
    except (OSError, psutil.Error) as error:
        raise UnavailableError(
            f"{name} did not start: {error}", f"run it by hand: {' '.join(argv)}"
        ) from error
    child.returncode = 0  # it outlives us on purpose: nobody waits for it, and no warning is due
    write_record(settings, record)
    return record


def _settled(pid: int) -> psutil.Process:
    """The process once its environment can be read: the kernel sets it a moment after the start."""
    process = psutil.Process(pid)
    for _ in range(_SETTLE_TRIES):
        with contextlib.suppress(psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ():
                break
        time.sleep(0.01)
    return process


def write_record(settings: Settings, record: ProcessRecord) -> None:
    """Write a record down atomically."""
    path = settings.run_dir / f"{record.name}.pid.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(record)))
    draft.replace(path)


def records(settings: Settings) -> list[ProcessRecord]:
    """Every record in the run folder, by name; those of dead processes included."""
    return [
        ProcessRecord(**json.loads(path.read_text())) for path in sorted(settings.run_dir.glob("*.pid.json"))
    ]


def running(settings: Settings, name: str) -> ProcessRecord | None:
    """The record of a process that was started under this name and still runs."""
    return next((r for r in records(settings) if r.name == name and r.alive()), None)


def stop_process(settings: Settings, name: str) -> bool:
    """Stop a recorded process and its descendants. Returns whether it was running."""
    record = running(settings, name)
    if record is not None:
        process = psutil.Process(record.pid)
        end([process, *process.children(recursive=True)])
    (settings.run_dir / f"{name}.pid.json").unlink(missing_ok=True)
    return record is not None


def ours(settings: Settings) -> list[psutil.Process]:
    """Every process that carries this platform's marker, and their descendants; never ourselves.

    A process that asks (a command, or a job that runs on the platform) and its ancestors are left out.
    """
    wanted = platform_id(settings)
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARKER) == wanted:
                for one in (process, *process.children(recursive=True)):
                    found[one.pid] = one
    me = psutil.Process()
    for one in (me, *me.parents()):
        found.pop(one.pid, None)
    return sorted(found.values(), key=lambda p: p.pid)


def end(processes: Sequence[psutil.Process]) -> list[int]:
    """Ask each process to end, and end by force what has not after three seconds.

    Returns:
        The ids of the processes that were there.
    """
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    gone, alive = psutil.wait_procs(processes, timeout=_GRACE_S)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    killed, _ = psutil.wait_procs(alive, timeout=_GRACE_S)
    return sorted(p.pid for p in (*gone, *killed))


def wait_until(deadline_s: float, what: str, mend: str) -> Iterator[float]:
    """Yield the seconds waited so far, every 50 ms, until the caller stops asking.

    Raises:
        UnavailableError: `deadline_s` has passed.
    """
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < deadline_s:
        yield waited
        time.sleep(0.05)
    raise UnavailableError(f"{what} did not answer within {deadline_s:.0f} s", mend)
