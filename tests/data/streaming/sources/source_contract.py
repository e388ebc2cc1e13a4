"""What every source promises, as a suite: a test class per implementation inherits it."""

import pytest

from rayplat.core.errors import IntegrityError
from rayplat.data.streaming.sources.source import Limit, Source, Watermarks

EVERYTHING = Limit(until=10**9, rows=10**9)


class SourceContract:
    """Inherit, and give `source`: two partitions, ten records b"0".."9" in the first, none in the second."""

    def test_name_and_partitions(self, source: Source) -> None:
        assert ":" in source.name
        assert source.partitions() == [0, 1]

    def test_watermarks(self, source: Source) -> None:
        assert source.watermarks() == {0: Watermarks(0, 10), 1: Watermarks(0, 0)}

    def test_everything_in_order(self, source: Source) -> None:
        records = source.read(0, 0, EVERYTHING)
        assert records.values == [str(i).encode() for i in range(10)]
        assert list(records.offsets) == list(range(10))
        assert records.next_offset == 10

    def test_a_read_stops_at_its_rows(self, source: Source) -> None:
        records = source.read(0, 2, Limit(until=10, rows=3))
        assert records.values == [b"2", b"3", b"4"]
        assert records.next_offset == 5

    def test_a_read_stops_before_its_end(self, source: Source) -> None:
        records = source.read(0, 7, Limit(until=9, rows=100))
        assert records.values == [b"7", b"8"]
        assert records.next_offset == 9

    def test_reads_go_on_where_the_last_ended(self, source: Source) -> None:
        position, values = 0, []
        while position < 10:
            records = source.read(0, position, Limit(until=10, rows=4))
            values += records.values
            position = records.next_offset
        assert values == [str(i).encode() for i in range(10)]

    def test_a_read_can_be_repeated(self, source: Source) -> None:
        assert source.read(0, 3, EVERYTHING) == source.read(0, 3, EVERYTHING)

    def test_partitions_may_alternate(self, source: Source) -> None:
        assert source.read(0, 0, Limit(10, 2)).values == [b"0", b"1"]
        assert source.read(1, 0, EVERYTHING).values == []
        assert source.read(0, 2, Limit(10, 2)).values == [b"2", b"3"]

    def test_the_end_is_not_waited_for(self, source: Source) -> None:
        records = source.read(0, 10, EVERYTHING)
        assert (list(records.values), records.next_offset) == ([], 10)

    def test_offsets_that_went_back(self, source: Source) -> None:
        with pytest.raises(IntegrityError, match="offsets went back"):
            source.read(0, 11, EVERYTHING)

    def test_it_can_be_opened_again(self, source: Source) -> None:
        source.read(0, 0, EVERYTHING)
        source.close()
        assert source.read(0, 9, EVERYTHING).values == [b"9"]
