import ast

import pytest

from tests.architecture.source import ROOT, environment_reads, long_functions, python_files, unsafe_loads

_SOURCES = python_files("src")
_ALL = python_files("src", "examples", "jobs", "benchmarks")


def test_nothing_unpickles() -> None:
    found = [(str(p.relative_to(ROOT)), *hit) for p in _ALL for hit in unsafe_loads(p.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle\npickle.loads(b'')",
        "import pickle as p\np.load(open('x', 'rb'))",
        "from pickle import loads as read\nread(b'')",
        "import cloudpickle\ncloudpickle.load(f)",
        "from ray import cloudpickle\ncloudpickle.loads(b'')",
        "import joblib\ndef f():\n    return joblib.load('x')",
        "import torch\ntorch.load('x')",
        "import torch\ntorch.load('x', weights_only=False)",
        "import torch as t\nt.load('x', weights_only=flag)",
        "import yaml\nyaml.load('x', Loader=yaml.Loader)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import pandas as pd\npd.read_pickle('x')",
    ],
)
def test_a_planted_unpickling_is_found(planted: str) -> None:
    assert len(unsafe_loads(planted)) == 1


@pytest.mark.parametrize(
    "harmless",
    [
        "import torch\ntorch.load('x', weights_only=True)",
        "import json\njson.loads('1')",
        "import yaml\nyaml.safe_load('x')",
        "import pickle\npickle.dumps(1)",
        "import numpy as np\nnp.load('x')",
    ],
)
def test_what_is_harmless_is_not_found(harmless: str) -> None:
    assert unsafe_loads(harmless) == []


def test_the_linter_bans_unpickling_too() -> None:
    import tomllib

    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not {"S301", "S302", "S506", "S614"} & set(lint["ignore"])


def test_the_environment_is_read_in_the_settings_alone() -> None:
    found = [
        (str(path.relative_to(ROOT)), *hit)
        for path in _SOURCES
        if not (path.parent.name == "core" and path.name.startswith("settings"))
        for hit in environment_reads(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "import os\nos.environ['X']",
        "from os import environ\nenviron.get('X')",
        "import os as o\no.getenv('X')",
    ],
)
def test_a_planted_read_of_the_environment_is_found(planted: str) -> None:
    assert environment_reads(planted)


@pytest.mark.parametrize("path", _SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src" / "rayplat")))
def test_a_file_is_one_noun(path) -> None:
    text = path.read_text()
    assert text.count("\n") < 400
    assert ast.get_docstring(ast.parse(text)), "a module says what it knows and what it does not"
    assert list(long_functions(text, 60)) == []


def test_a_package_only_says_what_it_is() -> None:
    package = ROOT / "src" / "rayplat"
    lazy = (package / "__init__.py", package / "cluster" / "spec" / "__init__.py")
    for path in _SOURCES:
        if path.name == "__init__.py" and path not in lazy:
            assert len(ast.parse(path.read_text()).body) == 1, path
