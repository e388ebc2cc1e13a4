"""What every decoder promises: a verdict for each record, whatever stands beside it."""

from collections.abc import Sequence

from rayplat.data.streaming.formats.decoder import Decoder
from rayplat.data.streaming.formats.json_records import Decoded


def judge(decoder: Decoder, values: Sequence[bytes | None]) -> Decoded:
    """Decode a batch; each record has exactly one verdict, and the one that it has alone."""
    together = decoder.decode(values)
    assert len(together.rows) == together.frame.height
    verdicts = sorted([*together.rows, *together.bad, *together.ignored])
    assert verdicts == list(range(len(values))), "each record has one verdict"
    assert list(together.rows) == sorted(together.rows), "order is kept"
    rows = iter(together.frame.rows())
    for index, value in enumerate(values):
        alone = decoder.decode([value])
        assert alone.bad.get(0) == together.bad.get(index), value
        assert (len(alone.ignored) == 1) == (index in together.ignored), value
        if alone.frame.height:
            assert repr(alone.frame.row(0)) == repr(next(rows)), value
    return together
