"""The behaviour of every online store; an implementation gives `open_store`, which opens one state."""

import threading
from collections.abc import Callable

import pytest

from rayplat.core.errors import ConflictError
from rayplat.features.online import Entry, OnlineStore, Progress

SCHEMA = b"schema"


def at(step: int) -> Progress:
    return Progress(step, {"0": step}, SCHEMA)


class OnlineStoreContract:
    """Inherit, and give a fixture `open_store` that opens the same empty store again and again."""

    def test_a_view_never_written_has_no_progress(self, open_store: Callable[[], OnlineStore]):
        found = open_store().read({"v": ["a"]})["v"]
        assert found.progress is None
        assert dict(found.entries) == {}

    def test_what_was_written_is_read_by_another_opening(self, open_store: Callable[[], OnlineStore]):
        open_store().write("v", {"a": Entry(5, b"\0\xff"), "b": Entry(-(2**63), b"")}, at(1), expected=None)
        found = open_store().read({"v": ["b", "a", "never"], "w": ["a"]})
        assert dict(found["v"].entries) == {"a": Entry(5, b"\0\xff"), "b": Entry(-(2**63), b"")}
        assert found["v"].progress == at(1)
        assert found["w"].progress is None

    def test_a_write_from_another_progress_is_refused_and_changes_nothing(self, open_store):
        store = open_store()
        store.write("v", {"a": Entry(1, b"1")}, at(1), expected=None)
        for expected in (None, at(0), at(2), Progress(1, {"0": 1}, b"other")):
            with pytest.raises(ConflictError):
                store.write("v", {"a": Entry(9, b"9")}, at(9), expected=expected)
        assert store.read({"v": ["a"]})["v"].entries == {"a": Entry(1, b"1")}
        store.write("v", {"a": Entry(2, b"2")}, at(2), expected=at(1))
        assert store.read({"v": ["a"]})["v"].entries == {"a": Entry(2, b"2")}

    def test_replace_removes_what_is_not_given(self, open_store):
        store = open_store()
        store.write("v", {"a": Entry(1, b"1"), "b": Entry(1, b"1")}, at(1), expected=None)
        store.write("w", {"b": Entry(3, b"3")}, at(1), expected=None)
        store.write("v", {"a": Entry(2, b"2")}, at(2), expected=at(1), replace=True)
        found = store.read({"v": ["a", "b"], "w": ["b"]})
        assert found["v"].entries == {"a": Entry(2, b"2")}
        assert found["w"].entries == {"b": Entry(3, b"3")}

    def test_many_entities_at_once(self, open_store):
        store = open_store()
        entries = {f'["e{i}"]': Entry(i, str(i).encode()) for i in range(40_000)}
        store.write("v", entries, at(1), expected=None)
        assert store.read({"v": list(entries)})["v"].entries == entries

    def test_readers_see_whole_writes_only(self, open_store):
        writer = open_store()
        entities = [str(i) for i in range(50)]
        stop = threading.Event()
        faults: list[object] = []

        def read() -> None:
            store = open_store()
            while not stop.is_set():
                found = store.read({"v": entities})["v"]
                seen = {entry.rows for entry in found.entries.values()}
                step = found.progress.snapshot_id if found.progress else None
                if seen and seen != {str(step).encode()}:
                    faults.append((step, seen))

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        previous = None
        for step in range(1, 101):
            rows = {entity: Entry(step, str(step).encode()) for entity in entities}
            writer.write("v", rows, at(step), expected=previous)
            previous = at(step)
        stop.set()
        for reader in readers:
            reader.join()
        assert faults == []

    def test_of_two_writers_at_once_one_wins(self, open_store):
        start = threading.Barrier(4)
        won: list[int] = []

        def write(number: int) -> None:
            store = open_store()
            start.wait()
            try:
                store.write("v", {"a": Entry(number, b"")}, at(number), expected=None)
                won.append(number)
            except ConflictError:
                return

        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert len(won) == 1
        assert open_store().read({"v": ["a"]})["v"].entries["a"].newest == won[0]
