"""The rendered files: fresh in the repository, the same bytes every time, and told when they are stale."""

from pathlib import Path

import pytest

from rayplat.cluster.render.targets import TARGETS, render_targets, targets_of, write
from rayplat.cluster.spec import ClusterSpec, load_spec
from rayplat.core.errors import NotFoundError, UserError

FOLDER = Path(__file__).parents[3] / "cluster"


def test_the_committed_files_are_fresh() -> None:
    files = render_targets(load_spec(FOLDER / "platform.yaml"), FOLDER)
    assert [f.target for f in files] == list(TARGETS)
    assert [f.path.name for f in files if not f.fresh] == [], "run `rayplat cluster render`"


def test_the_same_spec_makes_the_same_bytes_and_says_how(tmp_path: Path) -> None:
    once = render_targets(load_spec(FOLDER / "platform.yaml"), tmp_path)
    again = render_targets(load_spec(FOLDER / "platform.yaml"), tmp_path)
    assert [f.text for f in once] == [f.text for f in again]
    assert all(f"`rayplat cluster render {f.target}`" in f.text.splitlines()[0] for f in once)


def test_a_stale_file_shows_what_would_change(tmp_path: Path) -> None:
    spec = load_spec(FOLDER / "platform.yaml")
    (missing,) = render_targets(spec, tmp_path, ["local"])
    assert (missing.found, missing.fresh) == (None, False)
    write(missing)
    missing.path.write_text(missing.text.replace("max_workers: 12", "max_workers: 99"))
    (stale,) = render_targets(spec, tmp_path, ["local"])
    assert not stale.fresh
    assert "-max_workers: 99" in stale.difference()
    assert "+max_workers: 12" in stale.difference()
    write(stale)
    assert render_targets(spec, tmp_path, ["local"])[0].fresh


def test_targets_follow_the_parts_of_the_spec() -> None:
    assert [t.name for t in targets_of(ClusterSpec())] == ["local"]
    with pytest.raises(UserError, match="no part 'kubernetes'"):
        targets_of(ClusterSpec(), ["kuberay"])
    with pytest.raises(NotFoundError, match="azure"):
        targets_of(ClusterSpec(), ["azure"])
