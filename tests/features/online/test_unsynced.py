"""A store that a machine left half written is begun anew; one that a killed process left is not."""

import os

from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.store import Change
from rayplat.features.online.unsynced import Mark
from tests.features.online_contract import A, at, heads


def test_the_mark_stands_while_a_process_writes_and_goes_with_its_last_sync(tmp_path):
    store = LmdbOnlineStore(f"lmdb:///{tmp_path}/o")
    assert heads(store, "v", A) == [None]
    assert list((tmp_path / "o").glob("unsynced.*")) == []
    store.write("v", {A: Change(None, b"1")}, at(1), expected=None)
    assert [p.name for p in (tmp_path / "o").glob("unsynced.*")] == [f"unsynced.{os.getpid()}"]
    store.close()
    assert list((tmp_path / "o").glob("unsynced.*")) == []
    assert heads(store, "v", A) == [b"1"]
    store.close()


def test_a_mark_of_this_boot_keeps_the_store_and_one_of_another_does_not(tmp_path):
    store = LmdbOnlineStore(f"lmdb:///{tmp_path}/o")
    store.write("v", {A: Change(None, b"1")}, at(1), expected=None)
    store.close()
    gone = 2**22 + 1
    mark = tmp_path / "o" / f"unsynced.{gone}"
    mark.write_text(Mark(tmp_path)._boot)
    assert heads(store, "v", A) == [b"1"]
    store.close()
    # The process is gone, and everything was synced.
    assert not mark.exists()
    mark.write_text("another boot")
    assert heads(store, "v", A) == [None]
    assert store.views() == {}
    assert not mark.exists()
    store.close()


def test_a_sync_comes_before_the_mark_goes(tmp_path):
    seen = []
    mark = Mark(tmp_path, "boot")
    mark.lift(lambda: seen.append("nothing to do"))
    mark.set()
    mark.set()
    mark.lift(lambda: seen.append(len(list(tmp_path.iterdir()))))
    assert seen == [1]
    assert list(tmp_path.iterdir()) == []
