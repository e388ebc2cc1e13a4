"""What every source promises, as a suite: a test class per implementation inherits it."""

import copy
from collections.abc import Sequence

import pytest

from rayplat.core.errors import IntegrityError
from rayplat.data.streaming.sources.source import Limit, PartitionId, Records, Source, check_offsets

EVERYTHING = Limit(until=10**130, rows=10**9)


def values_of(records: Records) -> list[bytes | None]:
    """The records as bytes, whichever way the source gives them."""
    if records.frame is not None:
        assert records.values == [], "a source gives frames or values, not both"
        assert records.frame.height == len(records.offsets), "one row an offset"
        return [None if text is None else str(text).encode() for text in records.frame["value"]]
    assert len(records.values) == len(records.offsets)
    return list(records.values)


class SourceContract:
    """Inherit, and give `source`: ten records b"0".."9" in one partition, none in a second, if there is one.

    `partition` holds the ten and `empty` none; `offsets` are those of the ten; `wide` as declared.
    """

    partition: PartitionId = 0
    empty: PartitionId | None = 1
    offsets: Sequence[int] = range(10)
    wide = False

    def end(self) -> int:
        """Where a read ends that read everything."""
        return self.offsets[9] + 1

    def start(self, source: Source) -> int:
        """Where the first read begins."""
        return source.watermarks()[self.partition].low

    def test_name_and_partitions(self, source: Source) -> None:
        kind, _, rest = source.name.partition(":")
        assert kind
        assert rest
        wanted = [self.partition] if self.empty is None else [self.partition, self.empty]
        assert list(source.partitions()) == sorted(wanted)
        kinds = {type(partition) for partition in source.partitions()}
        assert kinds == ({str} if self.wide else {int})

    def test_watermarks_hold_everything(self, source: Source) -> None:
        marks = source.watermarks()
        assert list(marks) == list(source.partitions())
        mark = marks[self.partition]
        assert mark.low <= self.offsets[0]
        assert mark.high > self.offsets[9]
        assert mark.lag(mark.high) == 0
        if mark.dense:
            assert mark.lag(self.offsets[4]) == 6

    def test_everything_in_order(self, source: Source) -> None:
        records = source.read(self.partition, self.start(source), EVERYTHING)
        assert values_of(records) == [str(i).encode() for i in range(10)]
        assert list(records.offsets) == list(self.offsets)
        assert records.next_offset == self.end()
        assert records.bad == {}

    def test_offsets_are_unique_and_increasing_and_fit_their_kind(self, source: Source) -> None:
        offsets = list(source.read(self.partition, self.start(source), EVERYTHING).offsets)
        assert offsets == sorted(set(offsets))
        assert {type(offset) for offset in offsets} == {int}
        assert self.wide or max(offsets) < 2**63

    def test_a_read_stops_at_its_rows(self, source: Source) -> None:
        records = source.read(self.partition, self.offsets[2], Limit(until=10**130, rows=3))
        assert values_of(records) == [b"2", b"3", b"4"]
        assert self.offsets[4] < records.next_offset <= self.offsets[5]

    def test_a_read_stops_before_its_end(self, source: Source) -> None:
        records = source.read(self.partition, self.offsets[7], Limit(until=self.offsets[9], rows=100))
        assert values_of(records) == [b"7", b"8"]
        assert self.offsets[8] < records.next_offset <= self.offsets[9]

    @pytest.mark.parametrize("rows", [1, 4])
    def test_reads_go_on_where_the_last_ended(self, source: Source, rows: int) -> None:
        position, values = self.start(source), []
        while position < self.end():
            records = source.read(self.partition, position, Limit(until=self.end(), rows=rows))
            assert records.next_offset > position, "the read got nowhere"
            values += values_of(records)
            position = records.next_offset
        assert values == [str(i).encode() for i in range(10)]

    @pytest.mark.parametrize("index", [0, 3, 9])
    def test_a_read_resumes_behind_any_record(self, source: Source, index: int) -> None:
        first = source.read(self.partition, self.start(source), Limit(10**130, index + 1))
        with copy.copy(source) as fresh:
            fresh.close()
            rest = fresh.read(self.partition, first.next_offset, EVERYTHING)
        assert values_of(first) + values_of(rest) == [str(i).encode() for i in range(10)]

    def test_a_read_can_be_repeated(self, source: Source) -> None:
        one = source.read(self.partition, self.offsets[3], EVERYTHING)
        two = source.read(self.partition, self.offsets[3], EVERYTHING)
        assert one == two
        assert values_of(one) == values_of(two)

    def test_two_readers_see_the_same(self, source: Source) -> None:
        with copy.copy(source) as other:
            one, two = (s.read(self.partition, self.offsets[1], EVERYTHING) for s in (source, other))
        assert list(one.offsets) == list(two.offsets)
        assert values_of(one) == values_of(two)

    def test_partitions_may_alternate(self, source: Source) -> None:
        begin = self.start(source)
        one = source.read(self.partition, begin, Limit(10**130, 2))
        assert values_of(one) == [b"0", b"1"]
        if self.empty is not None:
            assert values_of(source.read(self.empty, 0, EVERYTHING)) == []
        two = source.read(self.partition, one.next_offset, Limit(10**130, 2))
        assert values_of(two) == [b"2", b"3"]

    def test_the_end_is_not_waited_for(self, source: Source) -> None:
        records = source.read(self.partition, self.end(), EVERYTHING)
        assert (values_of(records), records.next_offset) == ([], self.end())

    def test_offsets_that_went_back(self, source: Source) -> None:
        with pytest.raises(IntegrityError, match="offsets went back"):
            source.read(self.partition, self.end() + 1, EVERYTHING)

    def test_what_was_read_is_still_good(self, source: Source) -> None:
        check_offsets(source.name, {str(self.partition): self.end()}, source.watermarks())
        with pytest.raises(IntegrityError, match="is not there any more"):
            check_offsets(source.name, {"gone": 5}, source.watermarks())

    def test_each_record_is_described(self, source: Source) -> None:
        records = source.read(self.partition, self.offsets[5], Limit(10**130, 2))
        if records.describe is not None:
            meta = records.describe(1)
            assert meta.at is None or meta.at.utcoffset() is not None
            assert records.frame is None or (meta.raw is not None and b"6" in meta.raw)

    def test_it_can_be_opened_again(self, source: Source) -> None:
        source.read(self.partition, self.start(source), EVERYTHING)
        source.close()
        assert values_of(source.read(self.partition, self.offsets[9], EVERYTHING)) == [b"9"]
