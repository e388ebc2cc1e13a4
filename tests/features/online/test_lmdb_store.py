"""The embedded store: the contract of all stores, and what is its own."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.opening import open_online
from rayplat.features.online.store import Change
from tests.features.online_contract import A, OnlineStoreContract, at, heads, progress


class TestLmdb(OnlineStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path):
        opened: list[LmdbOnlineStore] = []

        def open_one() -> LmdbOnlineStore:
            opened.append(LmdbOnlineStore(f"lmdb:///{tmp_path}/folder/online"))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()

    def test_all_views_of_a_read_are_of_one_moment(self, open_store):
        writer, stop, faults = open_store(), threading.Event(), []

        def read() -> None:
            store = open_store()
            while not stop.is_set():
                v, w = store.read(lambda r: (r.heads("v", [A])[0], r.heads("w", [A])[0]))
                # `v` is written first: within one moment it is as far as `w` or one ahead.
                if int(v or 0) - int(w or 0) not in (0, 1):
                    faults.append((v, w))

        reader = threading.Thread(target=read)
        reader.start()
        for step in range(1, 51):
            for view in "vw":
                before = None if step == 1 else b"%d" % (step - 1)
                expected = None if step == 1 else at(step - 1)
                writer.write(view, {A: Change(before, b"%d" % step)}, at(step), expected=expected)
        stop.set()
        reader.join()
        assert faults == []

    def test_the_map_grows_while_others_read(self, open_store, tmp_path):
        writer = LmdbOnlineStore(f"lmdb:///{tmp_path}/small", map_bytes=1 << 16)
        reader = LmdbOnlineStore(f"lmdb:///{tmp_path}/small")
        stop, read = threading.Event(), []

        def ask() -> None:
            while not stop.is_set():
                read.append(heads(reader, "v", A))

        asking = threading.Thread(target=ask)
        asking.start()
        big = {b'["%d"]' % i: Change(None, bytes(2000)) for i in range(2000)}
        writer.write("v", {A: Change(None, b"1")} | big, at(1), expected=None)
        stop.set()
        asking.join()
        assert heads(reader, "v", A, b'["1999"]') == [b"1", bytes(2000)]
        assert set(map(str, read)) <= {"[None]", "[b'1']"}
        # A process that opened the store when it was small takes the new size on.
        writer.close()
        reader.close()

    def test_another_process_lets_the_map_grow(self, tmp_path):
        url = f"lmdb:///{tmp_path}/shared"
        mine = LmdbOnlineStore(url, map_bytes=1 << 16)
        mine.write("v", {A: Change(None, b"1")}, at(1), expected=None)
        script = (
            "from rayplat.features.online.lmdb_store import LmdbOnlineStore as S\n"
            "from rayplat.features.online.store import Change, Progress\n"
            f"s = S({url!r}, map_bytes=1 << 16)\n"
            "p = s.read(lambda r: r.progress('v'))\n"
            "s.write('v', {b'[%d]' % i: Change(None, bytes(2000)) for i in range(2000)}, p, expected=p)\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        assert heads(mine, "v", A, b"[1999]") == [b"1", bytes(2000)]
        mine.write("v", {A: Change(b"1", b"2")}, at(2), expected=at(1))
        assert heads(mine, "v", A) == [b"2"]
        mine.close()


def test_the_settings_name_the_store(tmp_path: Path):
    store = open_online(Settings(home=tmp_path))
    assert progress(store, "v") is None
    assert (tmp_path / "online" / "data.mdb").exists()
    store.close()
    with pytest.raises(UserError, match="no online store for 'ftp'"):
        open_online(Settings(home=tmp_path, online="ftp://x"))
    with pytest.raises(UserError, match="no longer kept in SQLite"):
        open_online(Settings(home=tmp_path, online="sqlite:///x.db"))
    with pytest.raises(UserError, match="not an embedded"):
        LmdbOnlineStore("lmdb:///")


def test_a_relative_folder_is_against_the_working_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Settings(online="lmdb:///state/online").online == f"lmdb:///{tmp_path}/state/online"


def test_what_is_no_store_is_told(tmp_path: Path):
    (tmp_path / "o.db").write_bytes(b"no store")
    with pytest.raises(UserError, match="is a file"):
        heads(LmdbOnlineStore(f"lmdb:///{tmp_path}/o.db"), "v", A)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "data.mdb").write_bytes(b"no store, but long enough to look like one" * 1000)
    with pytest.raises(UnavailableError, match="cannot be opened"):
        heads(LmdbOnlineStore(f"lmdb:///{tmp_path}/o"), "v", A)
