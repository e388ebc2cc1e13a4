"""The embedded store: the contract of all stores, and what is its own."""

import sqlite3
from pathlib import Path

import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.features.online import Entry, SqliteOnlineStore, open_online
from tests.features.online_contract import OnlineStoreContract, at


class TestSqlite(OnlineStoreContract):
    @pytest.fixture
    def open_store(self, tmp_path: Path):
        opened: list[SqliteOnlineStore] = []

        def open_one() -> SqliteOnlineStore:
            opened.append(SqliteOnlineStore(f"sqlite:///{tmp_path}/folder/online.db"))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()

    def test_a_reader_is_not_blocked_by_an_open_write(self, open_store, tmp_path):
        open_store().write("v", {"a": Entry(1, b"1")}, at(1), expected=None)
        writing = sqlite3.connect(tmp_path / "folder/online.db", isolation_level=None)
        writing.execute("BEGIN IMMEDIATE")
        writing.execute("DELETE FROM entry")
        assert open_store().read({"v": ["a"]})["v"].entries == {"a": Entry(1, b"1")}
        writing.execute("ROLLBACK")
        writing.close()

    def test_a_closed_store_opens_again(self, open_store):
        store = open_store()
        store.write("v", {"a": Entry(1, b"1")}, at(1), expected=None)
        store.close()
        assert store.read({"v": ["a"]})["v"].progress == at(1)


def test_the_settings_name_the_store(tmp_path: Path):
    store = open_online(Settings(home=tmp_path))
    assert store.read({"v": []})["v"].progress is None
    assert (tmp_path / "online.db").exists()
    store.close()
    with pytest.raises(UserError, match="no online store for 'ftp'"):
        open_online(Settings(home=tmp_path, online="ftp://x"))
    with pytest.raises(UserError, match="not an embedded"):
        SqliteOnlineStore("sqlite:///:memory:")


def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    (tmp_path / "o.db").write_bytes(b"no database, but long enough to look like one" * 100)
    with pytest.raises(UnavailableError, match="cannot be opened"):
        SqliteOnlineStore(f"sqlite:///{tmp_path}/o.db").read({"v": []})
