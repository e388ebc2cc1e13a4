import random

import pytest

from rayplat.serve.log.frames import frame, scan

PAYLOADS = (b"first", b"", b"x" * 1000, b"last one")
DATA = b"".join(map(frame, PAYLOADS))


def test_what_was_written_is_read():
    found = scan(DATA)
    assert found.payloads == PAYLOADS
    assert (found.end, found.damaged) == (len(DATA), 0)
    assert found.ends[-1] == len(DATA)


def test_cut_anywhere_the_whole_frames_are_read_and_nothing_is_damaged():
    for cut in range(len(DATA)):
        found = scan(DATA[:cut])
        assert found.damaged == 0, cut
        assert found.payloads == PAYLOADS[: len(found.payloads)]
        assert found.end == (found.ends[-1] if found.ends else 0)


def test_a_tail_of_zeros_is_torn():
    found = scan(DATA + bytes(100))
    assert (found.payloads, found.damaged, found.end) == (PAYLOADS, 0, len(DATA))


def test_every_flipped_bit_is_found_and_costs_one_frame():
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chosen = random.Random(seed).sample(range(len(DATA) * 8), 500)
    ends = scan(DATA).ends
    for bit in chosen:
        data = bytearray(DATA)
        data[bit // 8] ^= 1 << bit % 8
        hit = next(i for i, end in enumerate(ends) if bit // 8 < end)
        found = scan(bytes(data))
        assert found.payloads == PAYLOADS[:hit] + PAYLOADS[hit + 1 :], bit
        assert found.damaged == 1, bit


@pytest.mark.parametrize("planted", [b"\xf1WAL", frame(b"inner")])
def test_a_payload_that_looks_like_a_frame_is_a_payload(planted):
    assert scan(frame(planted) + frame(b"after")).payloads == (planted, b"after")
