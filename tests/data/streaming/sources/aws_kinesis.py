"""Moto's Kinesis in this process, made to behave as AWS does where it does not.

Knows the differences: in moto a closed shard goes on taking records, loses its own to its children, and
its iterator never ends; a new stream begins again at sequence number 1.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.kinesis import models
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"


def stream_of(name: str) -> Any:
    return models.kinesis_backends[DEFAULT_ACCOUNT_ID][REGION].streams[name]


def trim(name: str, shard_id: str, before: int) -> None:
    """What the end of the retention does: the records before a sequence number are gone."""
    records = stream_of(name).shards[shard_id].records
    for number in [number for number in records if number < before]:
        del records[number]


@contextmanager
def aws_kinesis() -> Iterator[str]:
    """The endpoint of a server that behaves as AWS does."""
    with pytest.MonkeyPatch.context() as patch:
        _mend(patch)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def _mend(patch: pytest.MonkeyPatch) -> None:
    by_key, split, merge = (
        models.Stream.get_shard_for_key,
        models.Stream.split_shard,
        models.Stream.merge_shards,
    )
    get, put = models.KinesisBackend.get_records, models.Shard.put_record

    def get_shard_for_key(stream: Any, partition_key: str, explicit_hash_key: str) -> Any:
        shards, stream.shards = stream.shards, {i: s for i, s in stream.shards.items() if s.is_open}
        try:
            return by_key(stream, partition_key, explicit_hash_key)
        finally:
            stream.shards = shards

    def keeping(reshard: Any) -> Any:
        def changed(stream: Any, *arguments: str) -> None:
            kept = {i: shard.records for i, shard in stream.shards.items()}
            for shard in stream.shards.values():
                shard.records = type(shard.records)()
            reshard(stream, *arguments)
            for shard_id, records in kept.items():
                stream.shards[shard_id].records = records

        return changed

    numbers = itertools.count(49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_001)

    def put_record(shard: Any, *arguments: str) -> str:
        put(shard, *arguments)
        record = shard.records.pop(shard.get_max_sequence_number())
        record.sequence_number = next(numbers)
        shard.records[record.sequence_number] = record
        return str(record.sequence_number)

    def get_records(backend: Any, arn: str | None, iterator: str, limit: int | None) -> Any:
        following, records, behind = get(backend, arn, iterator, limit)
        name, shard_id, _ = models.decompose_shard_iterator(iterator)
        shard = backend.streams[name].shards[shard_id]
        last = models.decompose_shard_iterator(following)[2]
        if not shard.is_open and int(last) >= shard.get_max_sequence_number():
            following = None
        return following, records, behind

    patch.setattr(models.Stream, "get_shard_for_key", get_shard_for_key)
    patch.setattr(models.Stream, "split_shard", keeping(split))
    patch.setattr(models.Stream, "merge_shards", keeping(merge))
    patch.setattr(models.Shard, "put_record", put_record)
    patch.setattr(models.KinesisBackend, "get_records", get_records)
