"""The Kinesis reader: the contract of sources on moto, and what only Kinesis does: splits, merges, trims."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rayplat.core.errors import IntegrityError, NotFoundError, UnavailableError
from rayplat.data.streaming.sources.kinesis import KinesisSource
from rayplat.data.streaming.sources.kinesis_client import KinesisAddress
from rayplat.data.streaming.sources.source import ENDED, Limit, Source, check_offsets, readable
from tests.data.streaming.sources.aws_kinesis import REGION, aws_kinesis, trim
from tests.data.streaming.sources.source_contract import EVERYTHING, SourceContract

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"
HALF = 2**127


@pytest.fixture(scope="module")
def address() -> Iterator[KinesisAddress]:
    with aws_kinesis() as endpoint:
        yield KinesisAddress(REGION, endpoint, "testing", "testing")


@pytest.fixture
def boto(address: KinesisAddress) -> Iterator[Any]:
    with closing(address.connect()) as client:
        yield client


def stream(boto: Any, shards: int = 1) -> str:
    name = f"stream-{uuid.uuid4().hex[:8]}"
    boto.create_stream(StreamName=name, ShardCount=shards)
    return name


def put(boto: Any, name: str, values: range | list[bytes], hash_key: int = 0) -> list[int]:
    """The sequence numbers."""
    told = []
    for value in values:
        data = value if isinstance(value, bytes) else str(value).encode()
        answer = boto.put_record(
            StreamName=name, Data=data, PartitionKey="key", ExplicitHashKey=str(hash_key)
        )
        told.append(int(answer["SequenceNumber"]))
    return told


class TestKinesis(SourceContract):
    partition, empty, wide = FIRST, SECOND, True

    @pytest.fixture
    def source(self, boto: Any, address: KinesisAddress) -> Iterator[Source]:
        name = stream(boto, 2)
        self.offsets = put(boto, name, range(10))
        with KinesisSource(name, address.connect) as source:
            yield source


@pytest.fixture
def one(boto: Any, address: KinesisAddress) -> Iterator[KinesisSource]:
    with KinesisSource(stream(boto), address.connect) as source:
        yield source


def everything(source: KinesisSource, offsets: dict[str, int], rows: int = 3) -> list[bytes]:
    """Read as an ingest does until nothing is left, and check the order of shards on the way."""
    values: list[bytes] = []
    moved = True
    while moved:
        moved = False
        marks = source.watermarks()
        check_offsets(source.name, offsets, marks)
        for shard in readable(marks, offsets):
            start = offsets.get(shard, marks[shard].low)
            records = source.read(shard, start, Limit(marks[shard].high, rows))
            values += [value for value in records.values if value is not None]
            moved |= records.next_offset > start
            offsets[shard] = records.next_offset
    return values


def test_a_split_shard_is_read_to_its_end_before_its_children(boto: Any, one: KinesisSource) -> None:
    put(boto, one.stream, range(5))
    offsets: dict[str, int] = {FIRST: one.read(FIRST, 0, Limit(ENDED, 2)).next_offset}
    boto.split_shard(StreamName=one.stream, ShardToSplit=FIRST, NewStartingHashKey=str(HALF))
    put(boto, one.stream, [b"low"])
    put(boto, one.stream, [b"high"], HALF + 5)
    marks = one.watermarks()
    assert [mark.ended for mark in marks.values()] == [True, False, False]
    assert [mark.parents for mark in marks.values()] == [(), (FIRST,), (FIRST,)]
    assert readable(marks, offsets) == [FIRST]
    values = everything(one, offsets)
    assert values[:3] == [b"2", b"3", b"4"]
    assert sorted(values[3:]) == [b"high", b"low"]
    assert offsets[FIRST] == ENDED
    assert everything(one, offsets) == []


def test_merged_shards_are_both_read_before_their_child(boto: Any, address: KinesisAddress) -> None:
    with KinesisSource(stream(boto, 2), address.connect) as source:
        put(boto, source.stream, [b"a", b"b"])
        put(boto, source.stream, [b"c", b"d", b"e", b"f"], HALF + 5)
        boto.merge_shards(StreamName=source.stream, ShardToMerge=FIRST, AdjacentShardToMerge=SECOND)
        put(boto, source.stream, [b"child"])
        marks = source.watermarks()
        child = max(marks)
        assert set(marks[child].parents) == {FIRST, SECOND}
        assert readable(marks, {FIRST: ENDED}) == [FIRST, SECOND]
        offsets: dict[str, int] = {}
        values = everything(source, offsets, rows=1)
        assert values[-1] == b"child"
        assert sorted(values) == [b"a", b"b", b"c", b"child", b"d", b"e", b"f"]
        assert (offsets[FIRST], offsets[SECOND]) == (ENDED, ENDED)


def test_a_shard_that_ended_may_vanish_and_one_that_was_not_read_may_not(one: KinesisSource) -> None:
    marks = one.watermarks()
    check_offsets(one.name, {"shardId-000000000099": ENDED}, marks)
    with pytest.raises(IntegrityError, match=r"shardId-000000000099 .* is not there any more"):
        check_offsets(one.name, {"shardId-000000000099": 123}, marks)
    assert readable(marks, {}) == [FIRST]


def test_a_shard_that_closes_while_it_is_read_ends(boto: Any, one: KinesisSource) -> None:
    put(boto, one.stream, range(2))
    records = one.read(FIRST, 0, EVERYTHING)
    boto.split_shard(StreamName=one.stream, ShardToSplit=FIRST, NewStartingHashKey=str(HALF))
    ended = one.read(FIRST, records.next_offset, EVERYTHING)
    assert (list(ended.values), ended.next_offset) == ([], ENDED)
    assert one.read(FIRST, ENDED, EVERYTHING).next_offset == ENDED


def test_new_records_are_read_on_by_the_same_iterator(boto: Any, one: KinesisSource) -> None:
    put(boto, one.stream, [b"a"])
    first = one.read(FIRST, 0, EVERYTHING)
    put(boto, one.stream, [b"b"])
    assert one.read(FIRST, first.next_offset, EVERYTHING).values == [b"b"]


def test_a_look_is_bounded_by_its_time(boto: Any, one: KinesisSource) -> None:
    put(boto, one.stream, [b"before"])
    as_of = one.watermarks()[FIRST].as_of
    assert as_of is not None
    put(boto, one.stream, [b"after"])
    first = one.read(FIRST, 0, Limit(ENDED, 10, before=as_of))
    assert first.values == [b"before"]
    rest = one.read(FIRST, first.next_offset, Limit(ENDED, 10, before=datetime.now(UTC) + timedelta(hours=1)))
    assert rest.values == [b"after"]


def test_trimmed_records_stop_the_read(boto: Any, one: KinesisSource, address: KinesisAddress) -> None:
    numbers = put(boto, one.stream, range(6))
    start = one.read(FIRST, 0, Limit(ENDED, 2)).next_offset
    one.close()
    trim(one.stream, FIRST, numbers[4])
    with pytest.raises(IntegrityError, match=f"{numbers[1]}, which is not there any more") as raised:
        one.read(FIRST, start, EVERYTHING)
    assert str(numbers[4]) in raised.value.what
    assert "kinesis.trimmed" in raised.value.mend
    with KinesisSource(one.stream, address.connect, accept_gaps=True) as accepting:
        assert accepting.read(FIRST, start, EVERYTHING).values == [b"4", b"5"]


def test_trimming_behind_the_last_record_is_no_loss(boto: Any, one: KinesisSource) -> None:
    numbers = put(boto, one.stream, range(6))
    start = one.read(FIRST, 0, Limit(ENDED, 4)).next_offset
    one.close()
    trim(one.stream, FIRST, numbers[3])
    assert one.read(FIRST, start, EVERYTHING).values == [b"4", b"5"]


def test_an_idle_shard_without_records_is_waited_for(boto: Any, one: KinesisSource) -> None:
    numbers = put(boto, one.stream, range(2))
    start = one.read(FIRST, 0, EVERYTHING).next_offset
    one.close()
    trim(one.stream, FIRST, numbers[1] + 1)
    assert one.read(FIRST, start, EVERYTHING).next_offset == start


def test_a_number_of_another_stream_is_told(address: KinesisAddress, boto: Any) -> None:
    class Refusing:
        """AWS says so, moto does not."""

        def get_shard_iterator(self, **asked: str) -> None:
            from botocore.exceptions import ClientError

            assert asked["StartingSequenceNumber"] == "7"
            message = "StartingSequenceNumber 7 is invalid because it did not come from this stream."
            raise ClientError(
                {"Error": {"Code": "InvalidArgumentException", "Message": message}}, "GetShardIterator"
            )

        def close(self) -> None:
            """Nothing is open."""

    with (
        KinesisSource("s", Refusing) as source,
        pytest.raises(IntegrityError, match=r"made anew: .* did not come from this stream"),
    ):
        source.read(FIRST, 8, EVERYTHING)


class Expiring:
    """A client of which each iterator expires once before it is taken."""

    def __init__(self, client: Any) -> None:
        self._client, self.expired = client, set[str]()

    def get_records(self, **asked: Any) -> Any:
        from botocore.exceptions import ClientError

        if asked["ShardIterator"] not in self.expired:
            self.expired.add(asked["ShardIterator"])
            raise ClientError({"Error": {"Code": "ExpiredIteratorException", "Message": "old"}}, "GetRecords")
        return self._client.get_records(**asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_an_expired_iterator_is_made_again(boto: Any, address: KinesisAddress, one: KinesisSource) -> None:
    put(boto, one.stream, range(5))
    made = []

    def connect() -> Expiring:
        made.append(Expiring(address.connect()))
        return made[-1]

    with KinesisSource(one.stream, connect) as source:
        start = source.read(FIRST, 0, Limit(ENDED, 2)).next_offset
        assert source.read(FIRST, start, EVERYTHING).values == [b"2", b"3", b"4"]
    assert len(made[0].expired) >= 2


def test_throttled_calls_are_repeated(boto: Any, address: KinesisAddress, one: KinesisSource) -> None:
    from botocore.awsrequest import AWSResponse

    put(boto, one.stream, [b"a"])
    throttled = []

    class Body:
        def stream(self) -> Iterator[bytes]:
            yield b'{"__type": "ProvisionedThroughputExceededException", "message": "slow down"}'

    def refuse(request: Any, **_: Any) -> AWSResponse | None:
        if len(throttled) < 3 and b"GetRecords" in str(request.headers["X-Amz-Target"]).encode():
            throttled.append(request)
            return AWSResponse(request.url, 400, {}, Body())
        return None

    def connect() -> Any:
        client = address.connect()
        client.meta.events.register("before-send.kinesis", refuse)
        return client

    with KinesisSource(one.stream, connect) as source:
        assert source.read(FIRST, 0, EVERYTHING).values == [b"a"]
    assert len(throttled) == 3


def test_an_aggregated_record_is_told_as_bad(boto: Any, one: KinesisSource) -> None:
    aggregate = b"\xf3\x89\x9a\xc2\x0a\x01a"
    numbers = put(boto, one.stream, [b"a", aggregate, b"b"])
    records = one.read(FIRST, 0, EVERYTHING)
    assert records.values == [b"a", aggregate, b"b"]
    assert list(records.bad) == [numbers[1]]
    assert "Producer Library" in records.bad[numbers[1]]


def test_key_and_arrival_stand_beside_a_record(boto: Any, one: KinesisSource) -> None:
    put(boto, one.stream, [b"a"])
    records = one.read(FIRST, 0, EVERYTHING)
    assert records.describe is not None
    meta = records.describe(0)
    assert meta.key == b"key"
    assert meta.at is not None
    assert abs(datetime.now(UTC) - meta.at) < timedelta(minutes=1)


def test_no_such_stream(address: KinesisAddress) -> None:
    with KinesisSource("nowhere", address.connect) as source, pytest.raises(NotFoundError, match="nowhere"):
        source.watermarks()


def test_nobody_listens(boto: Any) -> None:
    import socket
    from dataclasses import replace

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = replace(KinesisAddress(REGION, "", "x", "y", timeout_s=0.2), endpoint=f"http://127.0.0.1:{port}")

    def connect() -> Any:
        import boto3
        from botocore.config import Config

        # One try: the pauses between more of them take a minute.
        return boto3.client(
            "kinesis",
            region_name=REGION,
            endpoint_url=nobody.endpoint,
            aws_access_key_id="x",
            aws_secret_access_key="y",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=0.2),
        )

    with KinesisSource("s", connect) as source, pytest.raises(UnavailableError, match="does not answer"):
        source.partitions()
