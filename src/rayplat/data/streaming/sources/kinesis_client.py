"""The Kinesis service: its few calls that a reader needs, and its errors in our words.

Knows boto3; it does not know offsets, nor in which order shards are read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rayplat.core.errors import IntegrityError, NotFoundError, RayplatError, UnavailableError, UserError

_TRIES = 12


class InvalidPositionError(IntegrityError):
    """The service does not take a sequence number: it is not of this shard, or not of this stream."""


class _ExpiredError(Exception):
    """An iterator was not used for five minutes."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that is listed: one that is closed stays so until its last record is trimmed."""

    shard_id: str
    closed: bool
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of GetRecords.

    Attributes:
        records: as the service gives them.
        behind: how far the answer's end is from the tip of the shard.
        following: the iterator of the next call; None: the shard is closed and this was its end.
    """

    records: list[Any]
    behind: timedelta
    following: str | None


@dataclass(frozen=True, slots=True)
class KinesisAddress:
    """Where the service is and who asks; what is empty comes from the environment of the AWS client."""

    region: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    timeout_s: float = 10.0

    def connect(self) -> Any:
        """A boto3 client. Throttled calls are repeated by it, with pauses that grow."""
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

        config = Config(
            connect_timeout=self.timeout_s,
            read_timeout=self.timeout_s,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
        )
        try:
            return boto3.client(
                "kinesis",
                region_name=self.region or None,
                endpoint_url=self.endpoint or None,
                aws_access_key_id=self.access_key or None,
                aws_secret_access_key=self.secret_key or None,
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            raise UserError(
                f"Kinesis cannot be reached: {error}", "correct kinesis.region and kinesis.endpoint"
            ) from error


class KinesisClient:
    """One stream, asked over one connection that is made at first use.

    Args:
        stream: the stream's name.
        connect: makes the boto3 client; a seam for tests.
    """

    def __init__(self, stream: str, connect: Callable[[], Any]) -> None:
        self.stream = stream
        self._connect = connect
        self._made: Any = None

    @property
    def _boto(self) -> Any:
        if self._made is None:
            self._made = self._connect()
        return self._made

    def close(self) -> None:
        """Close the connection; the next call makes another."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def shards(self) -> list[Shard]:
        """All shards that are listed, open and closed.

        Raises:
            NotFoundError: there is no such stream.
            UnavailableError: the service does not answer, or refuses.
        """
        found: list[Shard] = []
        ask: dict[str, str] = {"StreamName": self.stream}
        while ask:
            with self._translated():
                answer = self._boto.list_shards(**ask)
            found += [_shard(told) for told in answer["Shards"]]
            token = answer.get("NextToken")
            ask = {"NextToken": token} if token else {}
        return sorted(found, key=lambda shard: shard.shard_id)

    def retention(self) -> timedelta:
        """How long the stream keeps a record.

        Raises:
            NotFoundError: there is no such stream.
            UnavailableError: the service does not answer, or refuses.
        """
        with self._translated():
            told = self._boto.describe_stream_summary(StreamName=self.stream)
        return timedelta(hours=told["StreamDescriptionSummary"]["RetentionPeriodHours"])

    def iterator(self, shard_id: str, at: int | None) -> str:
        """An iterator at a sequence number, or at the oldest record where it is None.

        Raises:
            InvalidPositionError: the number is not of this shard.
            NotFoundError: there is no such stream or shard.
            UnavailableError: the service does not answer, or refuses.
        """
        place = {"StreamName": self.stream, "ShardId": shard_id}
        if at is None:
            place["ShardIteratorType"] = "TRIM_HORIZON"
        else:
            place |= {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": str(at)}
        with self._translated():
            return str(self._boto.get_shard_iterator(**place)["ShardIterator"])

    def records(self, iterator: str, most: int) -> Reply | None:
        """The records behind an iterator; None where it has expired (after five minutes).

        Raises:
            UnavailableError: the service does not answer, or refuses.
        """
        try:
            with self._translated():
                answer = self._boto.get_records(ShardIterator=iterator, Limit=most)
        except _ExpiredError:
            return None
        behind = timedelta(milliseconds=answer.get("MillisBehindLatest") or 0)
        return Reply(answer["Records"], behind, answer.get("NextShardIterator"))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._of_service(error) from error
        except BotoCoreError as error:
            raise UnavailableError(
                f"the stream {self.stream} does not answer: {error}",
                "see the settings kinesis.endpoint and kinesis.region, and the AWS credentials",
            ) from error

    def _of_service(self, error: Any) -> RayplatError | _ExpiredError:
        told = error.response.get("Error", {})
        code, message = told.get("Code", ""), told.get("Message", "")
        if code == "ExpiredIteratorException":
            return _ExpiredError(message)
        if code == "InvalidArgumentException":
            return InvalidPositionError(
                f"the stream {self.stream} does not take what was asked: {message}", "see the stream"
            )
        if code == "ResourceNotFoundException":
            return NotFoundError(
                f"there is no stream {self.stream!r}, or a shard of it is gone: {message}",
                "create it, or correct the table's source and kinesis.region",
            )
        return UnavailableError(
            f"the stream {self.stream} cannot be read: {code}: {message}",
            "where it says that too much was asked: fewer readers, or more shards; otherwise see the rights "
            "and credentials",
        )


def _shard(told: Any) -> Shard:
    parents = (told.get("ParentShardId"), told.get("AdjacentParentShardId"))
    closed = "EndingSequenceNumber" in told["SequenceNumberRange"]
    return Shard(told["ShardId"], closed, tuple(p for p in parents if p))
