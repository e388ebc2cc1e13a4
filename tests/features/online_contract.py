"""The behaviour of every online store; an implementation gives `open_store`, which opens one state."""

import threading

import pytest

from rayplat.core.errors import ConflictError
from rayplat.features.online.store import Change, OnlineStore, Progress, encode_progress

SCHEMA = b"schema"
A, B = b'["a"]', b'["b"]'


def at(step: int) -> Progress:
    return Progress(step, {"0": step}, SCHEMA)


def key(number: int) -> bytes:
    return b"r" + number.to_bytes(8, "big")


def heads(store: OnlineStore, view: str, *entities: bytes) -> list[bytes | None]:
    return store.read(lambda reader: reader.heads(view, entities))


def progress(store: OnlineStore, view: str) -> Progress | None:
    return store.read(lambda reader: reader.progress(view))


def parts(store: OnlineStore, view: str, entity: bytes, low: int = 0, high: int = 1 << 62):
    def reading(reader):
        reader.heads(view, [entity])
        return reader.parts(view, [(entity, key(low), key(high))])[0]

    return store.read(reading)


def seen(*entities: bytes):
    """Looks at the progress of `v` and at heads, as bytes."""
    return lambda glance: (
        glance.standing("v"),
        [None if head is None else bytes(head) for head in glance.heads("v", entities)],
    )


class OnlineStoreContract:
    """Inherit, and give a fixture `open_store` that opens the same empty store again and again."""

    def test_a_view_never_written_has_no_progress(self, open_store):
        assert progress(open_store(), "v") is None
        assert heads(open_store(), "v", A) == [None]
        assert parts(open_store(), "v", A) == []
        assert open_store().views() == {}

    def test_what_was_written_is_read_by_another_opening(self, open_store):
        open_store().write("v", {A: Change(None, b"\0\xff"), B: Change(None, b"1")}, at(1), expected=None)
        store = open_store()
        assert heads(store, "v", B, A, b'["never"]') == [b"1", b"\0\xff", None]
        assert store.heads("v", [A, B, A]) == [b"\0\xff", b"1", b"\0\xff"]
        assert progress(store, "v") == at(1)
        assert progress(store, "w") is None
        assert heads(store, "w", A) == [None]

    def test_heads_come_with_how_far_the_view_had_come(self, open_store):
        store = open_store()
        assert store.look(seen(A)) == (None, [None])
        assert store.look(seen()) == (None, [])
        store.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        told, found = open_store().look(seen(B, A))
        assert (found, told) == ([None, b"1"], encode_progress(at(1)))
        store.write("v", {A: Change(b"1", b"2")}, at(2), expected=at(1))
        assert store.look(seen(A, B, A)) == (encode_progress(at(2)), [b"2", None, b"2"])

    def test_what_fails_while_it_looks_is_told_and_the_store_goes_on(self, open_store):
        store = open_store()
        store.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        with pytest.raises(ZeroDivisionError):
            store.look(lambda _glance: 1 // 0)
        store.write("v", {A: Change(b"1", b"2")}, at(2), expected=at(1))
        assert store.look(seen(A)) == (encode_progress(at(2)), [b"2"])

    def test_parts_come_in_the_order_of_their_keys(self, open_store):
        store = open_store()
        puts = [(key(n), bytes([n % 251, 255, 0])) for n in (300, 2, 1, 256, 7)]
        store.write("v", {A: Change(None, b"h", puts), B: Change(None, b"h", puts[:1])}, at(1), expected=None)
        assert parts(store, "v", A) == sorted(puts)
        assert parts(store, "v", A, 2, 256) == sorted(puts)[1:3]
        assert parts(store, "v", B) == puts[:1]

    def test_parts_are_replaced_and_dropped_before_they_are_put(self, open_store):
        store = open_store()
        store.write("v", {A: Change(None, b"1", [(key(n), b"x") for n in range(9)])}, at(1), expected=None)
        change = Change(b"1", b"2", [(key(3), b"new"), (key(8), b"")], [(key(0), key(5)), (key(6), key(7))])
        store.write("v", {A: change}, at(2), expected=at(1))
        assert parts(store, "v", A) == [(key(3), b"new"), (key(5), b"x"), (key(7), b"x"), (key(8), b"")]

    def test_a_write_from_another_progress_is_refused_and_changes_nothing(self, open_store):
        store = open_store()
        store.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        for expected in (None, at(0), at(2), Progress(1, {"0": 1}, b"other")):
            with pytest.raises(ConflictError):
                store.write("v", {A: Change(b"1", b"9")}, at(9), expected=expected)
        assert heads(store, "v", A) == [b"1"]
        store.write("v", {A: Change(b"1", b"2")}, at(2), expected=at(1))
        assert heads(store, "v", A) == [b"2"]

    def test_an_older_head_never_replaces_a_newer_one(self, open_store):
        store = open_store()
        store.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        # Both were made from the first head; the progress of a backfill does not move.
        store.write("v", {A: Change(b"1", b"2")}, at(1), expected=at(1))
        for before in (None, b"1"):
            with pytest.raises(ConflictError, match="changed meanwhile"):
                store.write("v", {A: Change(before, b"old")}, at(2), expected=at(1))
        assert (heads(store, "v", A), progress(store, "v")) == ([b"2"], at(1))

    def test_the_same_write_again_is_refused_or_changes_nothing(self, open_store):
        store = open_store()
        change = {A: Change(None, b"1", [(key(1), b"x")])}
        store.write("v", change, at(1), expected=None)
        with pytest.raises(ConflictError):
            store.write("v", change, at(1), expected=None)
        assert (heads(store, "v", A), parts(store, "v", A)) == ([b"1"], [(key(1), b"x")])

    def test_replace_removes_what_is_not_given(self, open_store):
        store = open_store()
        old = Change(None, b"1", [(key(1), b"x")])
        store.write("v", {A: old, B: old}, at(1), expected=None)
        store.write("w", {B: Change(None, b"3")}, at(1), expected=None)
        store.write("v", {A: Change(None, b"2")}, at(2), expected=at(1), replace=True)
        assert heads(store, "v", A, B) == [b"2", None]
        assert parts(store, "v", A) == parts(store, "v", B) == []
        assert heads(store, "w", B) == [b"3"]
        store.write("v", {B: Change(None, b"4")}, at(3), expected=at(2))
        assert heads(open_store(), "v", A, B) == [b"2", b"4"]

    def test_an_entity_is_deleted_with_all_its_parts_and_no_other(self, open_store):
        store = open_store()
        near = (A, b'["a!"]', b'["b"]', b'["a","b"]')
        store.write("v", {e: Change(None, b"h", [(key(1), b"x")]) for e in near}, at(1), expected=None)
        assert store.delete_entity("v", A)
        assert not store.delete_entity("v", A)
        assert not store.delete_entity("w", A)
        assert heads(store, "v", *near) == [None, b"h", b"h", b"h"]
        assert [len(parts(store, "v", e)) for e in near] == [0, 1, 1, 1]
        assert progress(store, "v") == at(1)

    def test_a_dropped_view_is_gone_and_the_others_stay(self, open_store):
        store = open_store()
        for view in ("v", "v2", "w[1]"):
            store.write(view, {A: Change(None, b"h", [(key(1), b"x")])}, at(1), expected=None)
        assert store.views() == dict.fromkeys(("v", "v2", "w[1]"), at(1))
        store.drop("v")
        assert set(store.views()) == {"v2", "w[1]"}
        assert heads(store, "v", A) == [None]
        assert parts(store, "v", A) == []
        assert heads(store, "v2", A) == [b"h"]
        store.drop("w[1]")
        assert heads(store, "w[1]", A) == [None]

    def test_long_names_and_odd_bytes(self, open_store):
        store = open_store()
        long = [b'["' + b"x" * 600 + str(i).encode() + b'"]' for i in range(3)]
        odd = [*long, '["{ü}*?"]'.encode(), b'["}"]']
        put = {e: Change(None, e, [(key(1), e)]) for e in odd}
        store.write("vüe*", put, at(1), expected=None)
        assert heads(store, "vüe*", *odd) == odd
        assert [parts(store, "vüe*", e)[0][1] for e in odd] == odd
        assert store.delete_entity("vüe*", long[1])
        assert heads(store, "vüe*", *odd) == [None if e == long[1] else e for e in odd]

    def test_many_entities_at_once(self, open_store):
        store = open_store()
        changes = {b'["e%d"]' % i: Change(None, b"%d" % i) for i in range(20_000)}
        store.write("v", changes, at(1), expected=None)
        assert store.heads("v", list(changes)) == [change.head for change in changes.values()]

    def test_readers_never_see_head_and_parts_of_two_writes(self, open_store):
        writer = open_store()
        stop = threading.Event()
        faults: list[object] = []
        seen: set[bytes] = set()

        def read() -> None:
            store = open_store()
            while not stop.is_set():

                def reading(reader):
                    head = reader.heads("v", [A])[0]
                    return head, reader.parts("v", [(A, key(0), key(9))])[0]

                head, held = store.read(reading)
                if head is not None:
                    seen.add(head)
                    if held != [(key(n), head) for n in range(5)]:
                        faults.append((head, held))

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        before = None
        # As many writes as it takes for the readers to come between, and a hundred at least.
        for step in range(1, 20_000):
            if step > 100 and len(seen) > 5:
                break
            told = b"%d" % step
            change = Change(before, told, [(key(n), told) for n in range(5)])
            writer.write("v", {A: change}, at(step), expected=None if step == 1 else at(step - 1))
            before = told
        stop.set()
        for reader in readers:
            reader.join()
        assert faults == []
        assert len(seen) > 5

    def test_of_two_writers_at_once_one_wins(self, open_store):
        start = threading.Barrier(4)
        won: list[int] = []

        def write(number: int) -> None:
            store = open_store()
            start.wait()
            try:
                store.write("v", {A: Change(None, b"%d" % number)}, at(number), expected=None)
                won.append(number)
            except ConflictError:
                return

        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert len(won) == 1
        assert heads(open_store(), "v", A) == [b"%d" % won[0]]
        assert progress(open_store(), "v") == at(won[0])

    def test_a_closed_store_opens_again(self, open_store):
        store = open_store()
        store.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        store.close()
        assert progress(store, "v") == at(1)

    def test_a_state_that_is_told_changes_with_every_write_of_the_view_by_any_process(self, open_store):
        store, other = open_store(), open_store()

        def state(view="v"):
            told = store.look(lambda glance: glance.state(view))
            assert told is None or told == store.look(lambda glance: glance.state(view))
            return told

        seen = [state()]
        other.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        seen.append(state())
        other.write("v", {A: Change(b"1", b"2")}, at(1), expected=at(1))
        seen.append(state())
        assert other.delete_entity("v", A)
        seen.append(state())
        other.write("w", {A: Change(None, b"1")}, at(1), expected=None)
        assert state() == seen[-1]
        other.drop("v")
        seen.append(state())
        other.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        seen.append(state())
        assert set(seen) == {None} or len(set(seen)) == len(seen)
