"""One behaviour over every catalog and storage; and what the settings tell each of them."""

import pickle
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.core.settings_sources import explain, load_settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.catalogs import catalog_properties, open_catalog
from rayplat.data.lakehouse.storage import file_system, file_systems, io_properties
from tests.data.lakehouse.lake_contract import LakeContract
from tests.rest_catalog import TOKEN, rest_catalog
from tests.servers import Aws, fresh_database


class TestSqliteAndLocal(LakeContract):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path / "home")


class TestLocalFolderWithStrangeName(LakeContract):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path / "ho me%20ü")


class TestPostgresAndLocal(LakeContract):
    @pytest.fixture
    def settings(self, tmp_path: Path, postgres_url: str) -> Settings:
        return Settings(home=tmp_path / "home", database=fresh_database(postgres_url))


class TestSqliteAndS3(LakeContract):
    @pytest.fixture
    def settings(self, tmp_path: Path, moto_server: Aws) -> Settings:
        bucket = moto_server.fresh_bucket()
        return Settings.model_validate(
            {"home": tmp_path, "warehouse": f"s3://{bucket}/lake", "s3": moto_server.s3_settings()}
        )


class TestGlueAndS3(LakeContract):
    @pytest.fixture
    def settings(self, tmp_path: Path, moto_server: Aws) -> Settings:
        with closing(moto_server.client("glue")) as glue:
            for database in glue.get_databases()["DatabaseList"]:  # an account has one catalog
                glue.delete_database(Name=database["Name"])
        bucket = moto_server.fresh_bucket()
        catalog = {"kind": "glue", "uri": moto_server.endpoint, "options": {"glue.id": "123456789012"}}
        return Settings.model_validate(
            {
                "home": tmp_path,
                "warehouse": f"s3://{bucket}/lake",
                "s3": moto_server.s3_settings(),
                "catalog": catalog,
            }
        )


class TestRestAndLocal(LakeContract):
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Iterator[Settings]:
        with rest_catalog(tmp_path / "served") as uri:
            catalog = {"kind": "rest", "uri": uri, "options": {"token": TOKEN}}
            yield Settings.model_validate({"home": tmp_path / "home", "catalog": catalog})


SECRET = "do-not-show"
AWS = {"endpoint": "http://127.0.0.1:1", "region": "r", "access_key": "k", "secret_key": SECRET}


def test_settings_reach_the_rest_catalog(tmp_path: Path) -> None:
    catalog = {"kind": "rest", "uri": "http://127.0.0.1:1/iceberg", "options": {"token": SECRET}}
    settings = Settings.model_validate({"home": tmp_path, "catalog": catalog, "s3": AWS})
    assert catalog_properties(settings) == {
        "uri": "http://127.0.0.1:1/iceberg",
        "token": SECRET,
        "s3.endpoint": "http://127.0.0.1:1",
        "s3.region": "r",
        "s3.access-key-id": "k",
        "s3.secret-access-key": SECRET,
    }
    with pytest.raises(UnavailableError, match="the REST catalog http") as raised:
        open_catalog(settings)
    assert SECRET not in str(raised.value)


def test_settings_reach_glue_and_options_win(tmp_path: Path) -> None:
    catalog = {"kind": "glue", "options": {"glue.region": "other", "glue.id": "7"}}
    settings = Settings.model_validate(
        {"home": tmp_path, "warehouse": "s3://b/lake", "catalog": catalog, "s3": AWS}
    )
    told = catalog_properties(settings)
    assert (told["glue.region"], told["glue.id"], told["warehouse"]) == ("other", "7", "s3://b/lake")
    assert (told["glue.access-key-id"], told["s3.endpoint"]) == ("k", "http://127.0.0.1:1")
    assert "glue.endpoint" not in told


def test_what_a_catalog_needs_is_told(tmp_path: Path) -> None:
    rest = Settings.model_validate({"home": tmp_path, "catalog": {"kind": "rest"}})
    with pytest.raises(UserError, match=r"catalog\.uri is empty"):
        Lakehouse(rest).names()
    glue = Settings.model_validate({"home": tmp_path, "catalog": {"kind": "glue"}})
    with pytest.raises(UserError, match="the warehouse is file"):
        Lakehouse(glue).names()
    with pytest.raises(UserError, match=r"setting catalog\.kind"):
        load_settings({"catalog.kind": "hive"}, tmp_path)


@pytest.mark.parametrize("sign", ["#", "?"])
def test_a_warehouse_whose_address_would_be_cut_is_refused(tmp_path: Path, sign: str) -> None:
    with pytest.raises(UserError, match="would be cut"):
        Lakehouse(Settings(home=tmp_path / f"C{sign}")).names()


def test_secrets_of_storage_and_catalog_are_masked(tmp_path: Path) -> None:
    flags = {"s3.secret_key": SECRET, "catalog.options.credential": SECRET, "catalog.options.token": SECRET}
    shown = {item.key: item.value for item in explain(flags, tmp_path)}
    assert {shown[key] for key in flags} == {"***"}
    assert SECRET not in repr(load_settings(flags, tmp_path))


def test_without_settings_the_environment_decides(tmp_path: Path) -> None:
    assert io_properties(Settings(home=tmp_path)) == {}


def test_addresses_and_their_file_systems(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path, "s3": AWS})
    system, inside = file_system("s3://bucket/a%2Fb/c d.parquet", settings)
    assert isinstance(system, pafs.S3FileSystem)
    assert (system.region, inside) == ("r", "bucket/a%2Fb/c d.parquet")
    for address in ("file:///a%20b/c", "/a%20b/c"):
        system, inside = pickle.loads(pickle.dumps(file_systems(settings)))(address)
        assert isinstance(system, pafs.LocalFileSystem)
        assert inside == "/a%20b/c"
    with pytest.raises(UserError, match="has no file system"):
        file_system("ftp://host/file", settings)
