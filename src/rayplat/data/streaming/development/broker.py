"""The development broker: one process on loopback that stands in for Kafka on a laptop.

Knows how it is started, found again and given topics; it does not know what is told to it. It keeps
nothing on disk: after it was killed a new one is empty, and the teller tells the same events again.
"""

import fcntl
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from rayplat.cluster.processes import start_process, stop_process, wait_until
from rayplat.core.errors import BugError, UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.data.streaming.development.mock_cluster import MockCluster

NAME = "kafka"
_START_S = 15.0
_POLL_S = 0.03


def start_broker(settings: Settings, topics: Mapping[str, int], env: Mapping[str, str] | None = None) -> str:
    """Start the development broker, or find it running, and see that it has the topics.

    Args:
        settings: `run_dir` is where it is written down: `kafka.json`, `kafka.log`.
        topics: the number of partitions by topic.
        env: further environment of the process.

    Returns:
        Its bootstrap address, once it answers and has the topics.

    Raises:
        UnavailableError: it did not answer in time.
        UserError: a topic is there with another number of partitions.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(settings.run_dir):
        wanted = {**_read(settings.run_dir / "kafka-topics.json"), **topics}
        _write(settings.run_dir / "kafka-topics.json", wanted)
        record = _read(settings.run_dir / "kafka.json")
        if not _alive(record):
            # Perhaps it hangs: a broker that does not answer is of no use, and a new one forgets nothing
            # that the lakehouse has committed.
            stop_process(settings, NAME)
            (settings.run_dir / "kafka.json").unlink(missing_ok=True)
            argv = [sys.executable, "-m", "rayplat.data.streaming.development.broker", str(settings.run_dir)]
            start_process(settings, NAME, argv, env)
        mend = f"see {settings.run_dir / 'kafka.log'}"
        for _ in wait_until(_START_S, "the development broker", mend):
            record = _read(settings.run_dir / "kafka.json")
            if record and not _missing(record, topics) and _alive(record):
                return str(record["bootstrap"])
    raise BugError("the wait for the development broker ended without a verdict")


def resolve_bootstrap(settings: Settings) -> str:
    """The brokers that the settings name, or else the development broker that runs.

    Raises:
        UnavailableError: neither is there.
    """
    if settings.kafka.bootstrap:
        return settings.kafka.bootstrap
    record = _read(settings.run_dir / "kafka.json")
    if _alive(record):
        return str(record["bootstrap"])
    raise UnavailableError(
        f"no Kafka is set, and no development broker of {settings.home} runs",
        "run `rayplat up` or `rayplat dev kafka`, or set kafka.bootstrap",
    )


def run_broker(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run the development broker in this process until SIGTERM or SIGINT.

    Args:
        settings: `run_dir` is where its address is written down and its topics are read from.
        ready: called with the bootstrap address once it answers.
    """
    serve(settings.run_dir, ready)


def serve(run_dir: Path, ready: Callable[[str], None]) -> None:
    """Run a broker for a run folder: it makes the topics of `kafka-topics.json`, also later ones."""
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with MockCluster() as cluster:
        record = {"bootstrap": cluster.bootstrap, "pid": os.getpid(), "topics": {}, "refused": {}}
        told = False
        seen: dict[str, Any] | None = None
        while not stop.is_set():
            wanted = _read(run_dir / "kafka-topics.json")
            if wanted != seen:
                seen = wanted
                record["refused"] = _create(cluster, wanted)
                record["topics"] = dict(cluster.topics)
                _write(run_dir / "kafka.json", record)
            if not told:
                ready(cluster.bootstrap)
                told = True
            stop.wait(_POLL_S)


def _create(cluster: MockCluster, topics: Mapping[str, int]) -> dict[str, str]:
    refused = {}
    for topic, partitions in topics.items():
        try:
            cluster.create(topic, partitions)
        except UserError as error:
            refused[topic] = error.what
    return refused


def _missing(record: Mapping[str, Any], topics: Mapping[str, int]) -> list[str]:
    """Which topics the broker has not made yet.

    Raises:
        UserError: it has refused one.
    """
    for topic in topics:
        if topic in record["refused"]:
            raise UserError(record["refused"][topic], "stop the development broker and start it again")
    return [topic for topic, partitions in topics.items() if record["topics"].get(topic) != partitions]


def _alive(record: Mapping[str, Any]) -> bool:
    """Whether the broker of this record runs and answers; in the background or in a terminal."""
    try:
        if not record or psutil.Process(record["pid"]).status() == psutil.STATUS_ZOMBIE:
            return False
        AdminClient({"bootstrap.servers": record["bootstrap"], "log_level": 0}).list_topics(timeout=2)
    except (psutil.NoSuchProcess, KafkaException):
        return False
    return True


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    with (run_dir / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    draft = path.with_suffix(f".{threading.get_native_id()}.draft")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def _announce(bootstrap: str) -> None:
    sys.stdout.write(f"listening on {bootstrap}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), _announce)
