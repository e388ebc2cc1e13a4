import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rayplat.cli.command import EXIT_CODES, Call, command, single
from rayplat.cli.lazy import NOUNS, load_noun
from rayplat.core import errors
from tests.cli.conftest import Ran
from tests.core.project.projects import GOOD

Run = Callable[..., Ran]


def _leaves() -> Iterator[tuple[str, Any]]:
    for noun in NOUNS:
        found = load_noun(noun)
        yield from _below(noun, found)


def _below(name: str, found: Any) -> Iterator[tuple[str, Any]]:
    verbs = getattr(found, "commands", None)
    if verbs is None:
        yield name, found
    for verb, inner in (verbs or {}).items():
        yield from _below(f"{name} {verb}", inner)


LEAVES = dict(_leaves())


def test_help_names_every_noun_and_the_exit_codes(rayplat: Run) -> None:
    text = rayplat("--help").out
    for noun in NOUNS:
        assert f" {noun} " in text
    words = " ".join(text.split())
    for code in EXIT_CODES:
        assert f"{code} {EXIT_CODES[code].split()[0]}" in words


def test_exit_codes_are_those_of_the_errors() -> None:
    kinds = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, errors.RayplatError)]
    assert {kind.exit_code for kind in kinds} == set(EXIT_CODES) - {0}


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_has_help_and_the_global_options(name: str) -> None:
    verb = LEAVES[name]
    assert verb.help
    options = {option for parameter in verb.params for option in parameter.opts}
    assert {"--home", "--set", "--output", "--verbose"} <= options


def test_the_help_of_a_noun_is_the_line_in_the_table() -> None:
    for noun, entry in NOUNS.items():
        assert entry.help.endswith("."), noun
        assert len(entry.help) < 72, noun


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["models"], ["models", "nonsense"], ["run"], ["--nonsense"]]
)
def test_wrong_usage_ends_with_2(rayplat: Run, arguments: list[str]) -> None:
    assert rayplat(*arguments).code == 2


def test_version(rayplat: Run) -> None:
    assert rayplat("version", "-o", "json").data["rayplat"]
    assert "polars" in rayplat("version").out


def test_global_options_before_and_after_the_command(rayplat: Run, tmp_path: Path) -> None:
    ran = rayplat(
        "--home", "a", "--set", "serve.port=1", "-o", "json", "config", "show", "--set", "serve.port=2"
    )
    found = {row["key"]: row for row in ran.data}
    assert found["home"]["value"] == str(tmp_path / "a")
    assert found["serve.port"] == {"key": "serve.port", "value": 2, "source": "flag --serve.port"}
    assert found["ray.cpus"]["source"] == "default"


def test_passwords_are_masked(rayplat: Run) -> None:
    ran = rayplat("config", "show", "--set", "database=postgresql://u:hunter2@h/db", "-o", "json")
    assert "hunter2" not in ran.out + ran.err
    assert "postgresql://u:***@h/db" in ran.out


@pytest.mark.parametrize("flag", ["x", "=1", "serve.prot=1"])
def test_a_wrong_setting_is_told_with_its_mend(rayplat: Run, flag: str) -> None:
    ran = rayplat("config", "show", "--set", flag)
    assert ran.code == 2
    assert "error: " in ran.err
    assert "mend: " in ran.err
    assert ran.out == ""


def test_project_check_tells_all_faults_as_text_and_as_json(rayplat: Run, tmp_path: Path) -> None:
    spoilt = GOOD.replace('pl.col("amount") > 100', 'pl.col("amuont") > 100').replace('"roc_auc"', '"auc"', 1)
    file = tmp_path / "shop.py"
    file.write_text(spoilt)
    ran = rayplat("project", "check", str(file))
    assert ran.code == 2
    assert "has 2 faults" in ran.err
    assert f"{file}:" in ran.err
    assert "did you mean 'amount'" in ran.err
    error = rayplat("project", "check", str(file), "--output", "json").error
    assert (error["kind"], error["exit_code"], len(error["faults"])) == ("ProjectError", 2, 2)
    assert error["faults"][0]["line"] > 1
    file.write_text(GOOD)
    assert rayplat("project", "check", str(file), "-o", "json").data["models"] == ["returned"]


@pytest.mark.parametrize(
    ("raised", "code", "kind"),
    [
        (ZeroDivisionError("x"), 70, "BugError"),
        (PermissionError(13, "Permission denied", "/x"), 1, "RayplatError"),
        (errors.IntegrityError("a", "b"), 6, "IntegrityError"),
    ],
)
def test_an_error_of_any_kind_has_its_exit_code(raised: Exception, code: int, kind: str) -> None:
    app = single()

    @command(app)
    def fail(call: Call) -> None:
        raise raised

    result = CliRunner().invoke(app, ["-o", "json"])
    assert result.exit_code == code
    assert json.loads(result.stderr.splitlines()[-1])["error"]["kind"] == kind
    assert ("Traceback" in result.stderr) is (code == 70)
    assert "Traceback" in CliRunner().invoke(app, ["--verbose"]).stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["passport", "prd_x", "project"], 2),
        (["predict", "x", "--json", "{"], 2),
        (["predict", "http://127.0.0.1:9/endpoints/x/predict", "--json", "{}"], 5),
        (["train", "nothing"], 2),
        (["data", "history", "raw.nothing"], 3),
        (["models", "show", "m/x"], 2),
        (["models", "show", "m"], 3),
        (["features", "list", "nothing"], 2),
        (["jobs", "env"], 5),
        (["jobs", "show", "none"], 3),
        (["serve", "list"], 5),
    ],
)
def test_bad_input_is_told_at_the_door(rayplat: Run, arguments: list[str], code: int) -> None:
    ran = rayplat(*arguments, "--output", "json")
    assert (ran.code, ran.error["exit_code"]) == (code, code), ran.err
    assert ran.error["what"]
    assert json.loads(ran.err.splitlines()[-1])


def test_answers_of_an_empty_platform(rayplat: Run) -> None:
    assert rayplat("data", "tables", "-o", "json").data == []
    assert rayplat("models", "list", "-o", "json").data == []
    assert rayplat("audit", "list", "-o", "json").data == []
    assert rayplat("audit", "verify", "-o", "json").data["verified"] == 0
    assert rayplat("status", "-o", "json").data["processes"] == []
    assert rayplat("down", "-o", "json").data == {"ended": []}
    assert "none" in rayplat("data", "tables").out
