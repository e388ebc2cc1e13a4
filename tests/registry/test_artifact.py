import random
import signal
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from pyarrow.fs import LocalFileSystem

from rayplat.core.errors import ConflictError, IntegrityError, NotFoundError, UserError
from rayplat.registry import folder
from rayplat.registry.artifact import (
    MANIFEST,
    SEAL,
    WEIGHTS,
    find_artifact,
    read_artifact,
    read_artifact_file,
    write_artifact,
)
from rayplat.registry.folder import LocalFolders, ObjectFolders, open_folders
from rayplat.registry.manifest import CodePin, FeaturePin, Manifest, TrainingPin
from rayplat.registry.profile import profile_of


def manifest(run_key: str = "k1") -> Manifest:
    values = np.array([0.0, 1.0, np.nan, np.inf], dtype=np.float32)
    return Manifest(
        model="late",
        run_key=run_key,
        features=(FeaturePin(view="v", digest="d", names=("v__a", "v__b")),),
        inputs=("v__a", "v__b"),
        training=TrainingPin(table="training.late", snapshot_id=7, digest="x", sources={"raw.a": 5}),
        code=CodePin(git_commit="unknown", dirty=False, project="p.py", project_sha256="y"),
        environment={"python": "3.11"},
        metrics={"roc_auc": 0.8},
        baselines={"base_rate": {"roc_auc": 0.5}},
        created_at=datetime(2013, 9, 1, tzinfo=UTC),
        profile={"v__a": profile_of(values)},
    )


def tensors() -> dict[str, torch.Tensor]:
    weight = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    return {"weight": weight, "tied": weight, "count": torch.tensor(3)}


@pytest.fixture
def uri(tmp_path):
    return f"file://{tmp_path}/models/late/k 1"


def test_what_is_written_is_read(uri):
    digest = write_artifact(uri, tensors(), manifest(), {"evaluation.parquet": b"rows"})
    weights, read = read_artifact(uri, digest)
    assert torch.equal(weights["tied"], tensors()["weight"])
    assert weights["count"].item() == 3
    assert read.inputs == ("v__a", "v__b")
    assert read.created_at == datetime(2013, 9, 1, tzinfo=UTC)
    assert sorted(read.files) == ["evaluation.parquet", WEIGHTS]
    assert read_artifact_file(uri, "evaluation.parquet", digest) == b"rows"
    with pytest.raises(NotFoundError, match=r"no file 'x'"):
        read_artifact_file(uri, "x")


def test_a_rerun_finds_the_artifact_and_another_run_is_refused(uri):
    digest = write_artifact(uri, tensors(), manifest())
    later = manifest().model_copy(update={"created_at": datetime.now(UTC)})
    assert write_artifact(uri, tensors(), later) == digest
    with pytest.raises(ConflictError, match="another run"):
        write_artifact(uri, tensors(), manifest("k2"))


def test_every_flipped_bit_is_found_before_anything_is_parsed(uri, tmp_path):
    digest = write_artifact(uri, tensors(), manifest(), {"evaluation.parquet": b"rows" * 9})
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for path in sorted((tmp_path / "models/late/k 1").iterdir()):
        good = path.read_bytes()
        regions = np.array_split(np.arange(len(good)), 8)  # header, payload and end of each file
        for region in regions:
            bad = bytearray(good)
            bad[dice.choice(list(region))] ^= 1 << dice.randrange(8)
            path.write_bytes(bytes(bad))
            with pytest.raises(IntegrityError, match=path.name if path.name != SEAL else MANIFEST):
                read_artifact(uri, digest)
            if path.name != SEAL:
                with pytest.raises(IntegrityError):
                    read_artifact(uri)
        path.write_bytes(good[:-1])
        with pytest.raises(IntegrityError):
            read_artifact(uri)
        path.write_bytes(good)
    read_artifact(uri, digest)


def test_an_artifact_exchanged_whole_is_found_by_the_registrys_digest(uri, tmp_path):
    digest = write_artifact(uri, tensors(), manifest())
    other = f"file://{tmp_path}/other"
    write_artifact(other, {"weight": torch.zeros(1)}, manifest())
    read_artifact(other)
    with pytest.raises(IntegrityError, match="not what was written"):
        read_artifact(other, digest)


def test_a_missing_file_and_a_missing_artifact_are_different(uri, tmp_path):
    with pytest.raises(NotFoundError):
        read_artifact(uri)
    assert find_artifact(uri) is None
    write_artifact(uri, tensors(), manifest())
    (tmp_path / "models/late/k 1" / WEIGHTS).unlink()
    with pytest.raises(IntegrityError, match="is gone"):
        read_artifact(uri)


@pytest.mark.parametrize("store", [LocalFolders(), ObjectFolders(LocalFileSystem())])
def test_both_stores_of_folders_behave_alike(store, tmp_path):
    path = str(tmp_path / "a" / "b")
    assert store.folders(str(tmp_path / "a")) == []
    assert store.publish(path, {"z.json": b"last", "a": b"1"}, last="z.json")
    assert not store.publish(path, {"z.json": b"other"}, last="z.json")
    assert store.read(path, "z.json") == b"last"
    assert store.exists(path, "a")
    assert not store.exists(path, "b")
    assert store.folders(str(tmp_path / "a")) == ["b"]
    with pytest.raises(FileNotFoundError):
        store.read(path, "b")
    store.remove(path)
    store.remove(path)
    assert not store.exists(path, "a")


def test_a_scheme_that_nothing_opens_is_refused():
    with pytest.raises(UserError, match="use file://, s3:// or gs://"):
        open_folders("ftp://host/x")


CHILD = """
import os, signal, sys
from rayplat.registry import folder
count = 0
write = folder._write_synced
def dying(path, content):
    global count
    count += 1
    if count > int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
folder._write_synced = dying
files = {name: b"x" * 1000 for name in ("a", "b", "last")}
folder.LocalFolders().publish(sys.argv[1], files, last="last")
"""


@pytest.mark.parametrize("written", [0, 1, 2])
def test_killed_while_writing_leaves_nothing_that_counts(written, tmp_path):
    target = tmp_path / "artifact"
    done = subprocess.run([sys.executable, "-c", CHILD, str(target), str(written)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert folder.LocalFolders().folders(str(tmp_path)) == []
    assert folder.LocalFolders().publish(str(target), {"last": b"1"}, last="last")
    assert [p.name for p in target.iterdir()] == ["last"]
