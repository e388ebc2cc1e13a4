"""The working folder as a package: what is taken, what is not and told, and one digest for one content."""

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.cluster.jobs.folder import PackedFile, pack, packed, unpack
from rayplat.core.errors import IntegrityError, UserError


def _write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def _paths(root: Path, **limits: int) -> list[str]:
    return [file.path for file in pack(root, limits.get("file_mib", 10), limits.get("folder_mib", 100)).files]


def test_what_no_job_needs_stays_at_home(tmp_path: Path) -> None:
    _write(tmp_path, "jobs/train.py", "src/a/b.py", ".env")
    _write(tmp_path, ".git/config", ".venv/bin/python", "x/__pycache__/a.pyc", ".rayplat/rayplat.db", "a.pyc")
    _write(tmp_path, "deep/node_modules/a.js", "mlruns/0/meta", ".mypy_cache/3.11/x")
    assert _paths(tmp_path) == [".env", "jobs/train.py", "src/a/b.py"]


def test_the_home_stays_at_home_whatever_it_is_called(tmp_path: Path) -> None:
    _write(tmp_path, "a.py", "platform/run/auth_token")
    assert [f.path for f in pack(tmp_path, 10, 100, [tmp_path / "platform"]).files] == ["a.py"]


def test_ignore_files_hold_in_their_own_folder_and_below(tmp_path: Path) -> None:
    _write(tmp_path, "data/big.csv", "data/keep.csv", "other/big.csv", "notes/a.md", "notes/deep/b.md")
    (tmp_path / "data" / ".gitignore").write_text("*.csv\n!keep.csv\n")
    (tmp_path / ".rayignore").write_text("/notes/deep\n")
    assert _paths(tmp_path) == [
        ".rayignore",
        "data/.gitignore",
        "data/keep.csv",
        "notes/a.md",
        "other/big.csv",
    ]


def test_a_large_file_is_left_out_and_told(tmp_path: Path) -> None:
    _write(tmp_path, "a.py")
    (tmp_path / "model.bin").write_bytes(b"\0" * (2**20 + 1))
    package = pack(tmp_path, 1, 100)
    assert [f.path for f in package.files] == ["a.py"]
    assert package.left_out == (("model.bin", 2**20 + 1),)


def test_a_folder_over_the_limit_names_what_is_largest(tmp_path: Path) -> None:
    for name in ("data/a", "data/b", "src/c", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(os.urandom(600_000))
    with pytest.raises(UserError, match=r"over 2 MiB.*data 1\.1 MiB, src 0\.6 MiB") as told:
        pack(tmp_path, 1, 2)
    assert ".rayignore" in told.value.mend


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        pack(tmp_path / "none", 10, 100)


def test_links_pipes_and_links_to_nowhere(tmp_path: Path) -> None:
    _write(tmp_path, "real/a.py")
    (tmp_path / "a_link.py").symlink_to(tmp_path / "real" / "a.py")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    assert _paths(tmp_path) == ["a_link.py", "real/a.py"]


def test_the_digest_is_of_the_content_and_of_nothing_else(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    _write(one, "a.py", "b/c.py")
    _write(other, "b/c.py", "a.py")
    os.utime(other / "a.py", (0, 0))
    first, second = pack(one, 10, 100), pack(other, 10, 100)
    assert first.digest == second.digest
    assert first.to_bytes() == second.to_bytes()
    (other / "a.py").chmod(0o755)
    assert pack(other, 10, 100).digest != first.digest


_files = st.dictionaries(
    st.text("abc/._é", min_size=1, max_size=8).filter(
        lambda p: not p.startswith("/") and not p.endswith("/")
    ),
    st.tuples(st.booleans(), st.binary(max_size=64)),
    max_size=6,
)


@given(_files)
def test_a_package_comes_back_as_it_was(files: dict[str, tuple[bool, bytes]]) -> None:
    package = packed([PackedFile(name, run, content) for name, (run, content) in files.items()])
    assert unpack(package.to_bytes(), package.digest) == package


@pytest.mark.parametrize("damage", ["flip", "cut", "exchanged"])
def test_a_damaged_package_is_refused(damage: str) -> None:
    package = packed([PackedFile("a.py", False, b"print(1)\n" * 50)])
    content = bytearray(package.to_bytes())
    if damage == "flip":
        content[50] ^= 1
    elif damage == "cut":
        del content[60:]
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.py", "print(2)")
        content = bytearray(buffer.getvalue())
    with pytest.raises(IntegrityError, match="not what was written"):
        unpack(bytes(content), package.digest)
