"""`rayplat cluster`: what people see of the cluster file, its targets, its checks and its policies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran

Run = Callable[..., Ran]
FOLDER = Path(__file__).parents[2] / "cluster"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The repository's cluster folder, copied to where the command runs."""
    return Path(shutil.copytree(FOLDER, tmp_path / "cluster"))


def test_show_names_groups_and_their_machines(rayplat: Run, folder: Path) -> None:
    shown = rayplat("cluster", "show")
    assert shown.code == 0
    assert "g6.2xlarge" in shown.out
    assert "75%, on-demand" in shown.out
    assert rayplat("cluster", "show", "-o", "json").data["groups"]["gpu-l4"]["accelerator"] == "L4"


def test_render_writes_what_is_stale_and_check_writes_nothing(rayplat: Run, folder: Path) -> None:
    assert rayplat("cluster", "render", "--check").code == 0
    spec = folder / "platform.yaml"
    spec.write_text(spec.read_text().replace("max: 8", "max: 9"))
    before = (folder / "aws.yaml").read_text()
    stale = rayplat("cluster", "render", "--check")
    assert stale.code == 1
    assert "+max_workers: 13" in stale.out
    assert "4 of 4 files would change: run `rayplat cluster render`" in stale.out
    assert (folder / "aws.yaml").read_text() == before
    written = rayplat("cluster", "render", "aws", "-o", "json")
    assert [(row["target"], row["state"]) for row in written.data] == [("aws", "written")]
    assert rayplat("cluster", "render", "--check", "aws").code == 0
    assert rayplat("cluster", "render", "--check", "gcp").code == 1


def test_check_ends_with_1_where_a_file_is_not_what_it_should_be(rayplat: Run, folder: Path) -> None:
    assert rayplat("cluster", "check", "local", "kuberay", "-o", "json").code == 0
    file = folder / "kuberay.yaml"
    file.write_text(file.read_text().replace("mode: DenyAllIngress", "mode: DenyAllEgress"))
    found = rayplat("cluster", "check", "kuberay")
    assert found.code == 1
    assert "no network policy denies what comes in" in found.out
    assert "rayplat cluster render kuberay" in found.out


def test_policies_are_printed_with_their_commands(rayplat: Run, folder: Path) -> None:
    printed = rayplat("cluster", "policy", "aws")
    assert '"ec2:TerminateInstances"' in printed.out
    assert "aws iam put-role-policy --role-name rayplat-head" in printed.out
    assert "rayplat-head" in {d["name"] for d in rayplat("cluster", "policy", "gcp", "-o", "json").data}


def test_faults_end_with_2_and_their_places(rayplat: Run, folder: Path) -> None:
    (folder / "platform.yaml").write_text("nmae: x\nidle_timeout_s: soon\n")
    for verb in (("show",), ("render",), ("check",), ("policy", "aws")):
        told = rayplat("cluster", *verb)
        assert told.code == 2
        assert "cluster/platform.yaml:1:1: nmae: there is no such key" in told.err
        assert "cluster/platform.yaml:2:17: idle_timeout_s: 'soon'" in told.err
    (first, _) = rayplat("cluster", "show", "-o", "json").error["faults"]
    assert (first["line"], first["column"], first["key"]) == (1, 1, "nmae")


def test_unknown_targets_end_with_3(rayplat: Run, folder: Path) -> None:
    assert rayplat("cluster", "render", "azure").code == 3
    assert rayplat("cluster", "policy", "azure").code == 3
