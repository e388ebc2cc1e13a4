"""Packages and logs in the warehouse: one suite over a disk and S3."""

from pathlib import Path

import pytest

from rayplat.cluster.jobs.folder import PackedFile, packed
from rayplat.cluster.jobs.storage import JobFiles
from rayplat.core.errors import IntegrityError, NotFoundError, UnavailableError
from rayplat.core.settings import Settings

PACKAGE = packed([PackedFile("jobs/a.py", True, b"print(1)\n"), PackedFile("é.txt", False, b"")])


@pytest.fixture(params=["disk", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> JobFiles:
    values: dict[str, object] = {"home": tmp_path}
    if request.param == "s3":
        aws = request.getfixturevalue("moto_server")
        values |= {"warehouse": f"s3://{aws.fresh_bucket()}/wh", "s3": aws.s3_settings()}
    return JobFiles(Settings.model_validate(values))


def test_a_package_is_kept_and_comes_back(files: JobFiles) -> None:
    assert files.has_package(PACKAGE.digest) is False
    for _ in range(2):
        files.keep_package(PACKAGE)
    assert files.has_package(PACKAGE.digest) is True
    assert files.read_package(PACKAGE.digest) == PACKAGE


def test_a_log_takes_the_place_of_an_earlier_copy(files: JobFiles) -> None:
    files.keep_log("j", "first")
    address = files.keep_log("j", "first and second\n")
    assert address.startswith(files.settings.warehouse)
    assert files.read_log(address) == "first and second\n"


def test_what_is_not_kept_is_not_found(files: JobFiles) -> None:
    with pytest.raises(NotFoundError, match="submit the job anew"):
        files.read_package("0" * 64)
    with pytest.raises(NotFoundError):
        files.read_log(f"{files.settings.warehouse}/jobs/logs/none.log")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    files = JobFiles(Settings(home=tmp_path))
    files.keep_package(PACKAGE)
    path = tmp_path / "warehouse" / "jobs" / "packages" / f"{PACKAGE.digest}.zip"
    content = bytearray(path.read_bytes())
    content[45] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        files.read_package(PACKAGE.digest)


def test_a_warehouse_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "warehouse").write_text("a file")
    with pytest.raises(UnavailableError, match="does not take"):
        JobFiles(Settings(home=tmp_path)).keep_log("j", "text")
