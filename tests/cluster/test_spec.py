"""The cluster file: defaults, and faults with their place."""

from pathlib import Path

import pytest

from rayplat.cluster.spec import ClusterSpec, load_spec
from rayplat.core.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_repositorys_file_is_valid() -> None:
    assert load_spec(ROOT / "cluster" / "platform.yaml").name == "rayplat"


def test_no_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_spec(tmp_path / "none.yaml") == ClusterSpec()


@pytest.mark.parametrize(
    ("text", "named"),
    [("local: {cpus: -1}", "local.cpus"), ("name: UPPER", "name"), ("nodes: 3", "nodes"), ("a: [", "YAML")],
)
def test_a_fault_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=named):
        load_spec(path)
