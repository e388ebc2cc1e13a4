import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

from rayplat.core.errors import ProjectError
from rayplat.core.project.load import load_project
from rayplat.core.project.project import Project
from rayplat.core.project.window import WindowAggregate
from tests.architecture.source import ROOT
from tests.core.project.projects import GOOD


@pytest.fixture(autouse=True)
def _imports_as_they_were() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("shops", "rayplat_project_", "project", "single")):
            del sys.modules[name]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a folder project that imports its sibling both ways, and a file project."""
    folder = tmp_path / "shops" / "one"
    folder.mkdir(parents=True)
    (folder / "data.py").write_text("LIMIT = 100\n\n\ndef rows():\n    return LIMIT\n")
    (folder / "project.py").write_text("from .data import rows\n" + GOOD)
    (tmp_path / "shops" / "two.py").write_text(GOOD)
    return tmp_path


def _shape(project: Project) -> list[str]:
    declared = [*project.tables, *project.views, *project.models, *project.endpoints, *project.monitors]
    features = [feature for view in project.views for feature in view.features.values()]
    exprs = [f.value if isinstance(f, WindowAggregate) else f for f in features]
    return [repr((type(d).__name__, d.name, d.where)) for d in declared] + [
        repr(expr.meta.serialize()) for expr in exprs
    ]


@pytest.mark.parametrize(
    "address", ["shops/one", "shops/one/", "shops/two", "shops/two.py", "shops.one", "shops.two"]
)
def test_relative_addresses(root: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(root)
    project = load_project(address)
    assert project.name == "shop"
    assert project.address == address
    kind = "one.project" if "one" in address else "two"
    assert project.models[0].train.__module__ == f"shops.{kind}"


def test_an_absolute_address_from_elsewhere_with_a_relative_import(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    address = str(root / "shops" / "one")
    project = load_project(address)
    assert project.address == address
    module = sys.modules[project.models[0].train.__module__]
    assert module.rows() == 100


def test_a_sibling_by_its_full_name_when_the_root_is_the_working_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "shops" / "one" / "project.py").write_text("from shops.one.data import rows\n" + GOOD)
    monkeypatch.chdir(root)
    assert load_project("shops/one").name == "shop"


def test_a_relative_address_is_found_from_the_path_of_a_worker(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("worker"))
    monkeypatch.syspath_prepend(str(root))
    assert load_project("shops/one").address == "shops/one"


def test_loading_twice_gives_a_fresh_equal_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "shops" / "one" / "declared.py").write_text(GOOD)
    (root / "shops" / "one" / "project.py").write_text("from .declared import shop\n")
    monkeypatch.chdir(root)
    first, second = load_project("shops/one"), load_project("shops/one")
    assert first is not second
    assert _shape(first) == _shape(second)
    assert len(second.tables) == 2


def test_an_edited_file_is_read_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    load_project("shops/two")
    (root / "shops" / "two.py").write_text(GOOD.replace('"shop"', '"bazaar"'))
    assert load_project("shops/two").name == "bazaar"


def test_functions_travel_to_another_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    payload = root / "function.bin"
    payload.write_bytes(cloudpickle.dumps(load_project("shops/one").models[0].train))
    code = f"import cloudpickle; print(cloudpickle.load(open({str(payload)!r}, 'rb'))(7))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "7"


@pytest.mark.parametrize("name", ["random.py", "v1.2/project.py", "polars/project.py", "my-shop/project.py"])
def test_a_file_never_takes_the_name_of_another_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    import random

    import polars

    project = load_project(str(file))
    assert project.name == "shop"
    assert sys.modules["random"] is random
    assert sys.modules["polars"] is polars
    again = load_project(str(file))
    assert again.models[0].train.__module__ == project.models[0].train.__module__


@pytest.mark.parametrize("address", ["", "no/such", "no.such", "/no/such", "shops", "\0"])
def test_an_address_with_nothing_there(root: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(ProjectError, match="has 1 fault"):
        load_project(address)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("import rayplat\n\nx = = 3\n", 3, "syntax error"),
        ("x = 1\nx / 0\n", 2, "ZeroDivisionError"),
        ("def f():\n    raise ValueError('deep')\n\nf()\n", 2, "ValueError: deep"),
        ("import no_such_package_here\n", 1, "No module named 'no_such_package_here'"),
        (
            "import rayplat as rp\n\nrp.Gate('roc_auc', at_lest=1)\n",
            3,
            "unexpected keyword argument 'at_lest'",
        ),
        ("import rayplat as rp\nrp.nothing\n", 2, "has no attribute 'nothing'"),
        ("raise SystemExit(3)\n", 1, "SystemExit: 3"),
        ("x = 1\n", 1, "declares no project"),
    ],
)
def test_a_file_that_fails_names_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    file = tmp_path / "single_fault.py"
    file.write_text(text)
    with pytest.raises(ProjectError) as raised:
        load_project(str(file))
    (fault,) = raised.value.faults
    assert fault.where is not None
    assert (fault.where.file, fault.where.line) == (str(file), line)
    assert what in fault.what
    assert fault.mend


def test_two_projects_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "single_two.py"
    file.write_text(GOOD + "other = rp.Project('other', owner='x')\nalias = shop\n")
    with pytest.raises(ProjectError, match="has 2 projects"):
        load_project(str(file))


@pytest.mark.parametrize("example", ["examples/flights", "examples/waterflow"])
def test_the_examples_hold_together(monkeypatch: pytest.MonkeyPatch, example: str) -> None:
    monkeypatch.chdir(ROOT)
    assert load_project(example).models
