import os
import pickle
from pathlib import Path

import pytest

from rayplat.core.errors import UserError
from rayplat.core.settings import Settings, absolute_address
from rayplat.core.settings_environment import as_environment
from rayplat.core.settings_sources import explain, load_settings, settings_keys


@pytest.fixture(autouse=True)
def _no_rayplat_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RAYPLAT_")]:
        monkeypatch.delenv(name)


def _source_of(key: str, folder: Path, flags: dict[str, object] | None = None) -> str:
    return next(e.source for e in explain(flags, folder) if e.key == key)


def test_each_source_overrides_the_one_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(cwd=tmp_path).serve.port == 8000
    (tmp_path / "rayplat.toml").write_text("# ports\n[serve]\nport = 9000\n")
    assert load_settings(cwd=tmp_path).serve.port == 9000
    assert _source_of("serve.port", tmp_path) == f"rayplat.toml:3 {tmp_path}/rayplat.toml"
    monkeypatch.setenv("RAYPLAT_SERVE__PORT", "9001")
    assert load_settings(cwd=tmp_path).serve.port == 9001
    assert _source_of("serve.port", tmp_path) == "environment RAYPLAT_SERVE__PORT"
    assert load_settings({"serve.port": "9002"}, tmp_path).serve.port == 9002
    assert _source_of("serve.port", tmp_path, {"serve.port": 9002}) == "flag --serve.port"
    assert _source_of("serve.host", tmp_path) == "default"


@pytest.mark.parametrize("flag", [0, "0"])
def test_presence_decides_not_truthiness(tmp_path: Path, flag: object) -> None:
    (tmp_path / "rayplat.toml").write_text("serve.port = 9000\nray = {cpus = 3}\n")
    settings = load_settings({"serve.port": flag}, tmp_path)
    assert (settings.serve.port, settings.ray.cpus) == (0, 3)
    assert _source_of("ray.cpus", tmp_path).startswith("rayplat.toml:2 ")


def test_a_file_in_a_parent_counts_and_its_paths_are_against_it(tmp_path: Path) -> None:
    (tmp_path / "rayplat.toml").write_text(
        'home = "here"\nwarehouse = "lake"\ndatabase = "sqlite:///state/db.sqlite"\nonline="redis://h:1/0"\n'
    )
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    settings = load_settings(cwd=inner)
    assert settings.home == tmp_path / "here"
    assert settings.warehouse == f"file://{tmp_path}/lake"
    assert settings.database == f"sqlite:///{tmp_path}/state/db.sqlite"
    assert settings.online == "redis://h:1/0"


def test_options_are_merged_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rayplat.toml").write_text('[kafka.options]\n"group.id" = "g"\n"client.id" = "file"\n')
    monkeypatch.setenv("RAYPLAT_KAFKA__OPTIONS", '{"client.id": "env"}')
    settings = load_settings({"kafka.options.security.protocol": "SSL"}, tmp_path)
    assert settings.kafka.options == {"group.id": "g", "client.id": "env", "security.protocol": "SSL"}


def test_unknown_keys_are_all_named_with_the_closest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rayplat.toml").write_text("[serve]\nprot = 1\n")
    monkeypatch.setenv("RAYPLAT_KAFKA__BOOTSTRAPS", "x")
    with pytest.raises(UserError) as raised:
        load_settings({"wharehouse": "x", "ray": 3}, tmp_path)
    text = str(raised.value)
    assert f"'serve.prot' (rayplat.toml:2 {tmp_path}/rayplat.toml), did you mean 'serve.port'" in text
    assert "RAYPLAT_KAFKA__BOOTSTRAPS), did you mean 'kafka.bootstrap'" in text
    assert "did you mean 'warehouse'" in text
    assert "'ray' is a group of settings" in text


def test_wrong_values_are_all_named_with_their_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYPLAT_SERVE__PORT", "many")
    with pytest.raises(UserError) as raised:
        load_settings({"ray.cpus": -1, "home": 7}, tmp_path)
    for part in ("serve.port = 'many' (environment RAYPLAT_SERVE__PORT)", "ray.cpus = -1", "home = 7"):
        assert part in str(raised.value)


@pytest.mark.parametrize("text", ["serve = {", "serve.port = 1\nserve.port = 2"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "rayplat.toml").write_text(text)
    with pytest.raises(UserError, match=r"rayplat.toml is not TOML"):
        load_settings(cwd=tmp_path)


def test_json_that_does_not_parse_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYPLAT_KAFKA__OPTIONS", "{secret")
    with pytest.raises(UserError, match="does not parse") as raised:
        load_settings(cwd=tmp_path)
    assert "{secret" not in str(raised.value)


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    flags = {
        "database": "postgresql://ada:hunter2@db/x",
        "online": "redis://:hunter2@cache/0",
        "kafka.options.sasl.password": "hunter2",
    }
    settings = load_settings(flags, tmp_path)
    assert settings.database == "postgresql://ada:hunter2@db/x"
    shown = repr(settings) + str(settings) + repr(settings.kafka) + repr(explain(flags, tmp_path))
    assert "hunter2" not in shown
    assert "postgresql://ada:***@db/x" in shown
    with pytest.raises(UserError) as raised:
        load_settings({**flags, "kafka.options.sasl.password": ["hunter2"]}, tmp_path)
    assert "hunter2" not in str(raised.value)


def test_settings_survive_a_worker_with_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings({"home": "h"}, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert Settings.model_validate(settings.model_dump()) == settings
    assert settings.home.is_absolute()
    assert settings.user


def test_keys_are_listed() -> None:
    keys = settings_keys()
    assert {"home", "kafka.bootstrap", "kafka.options.*", "serve.port"} <= set(keys)


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("lake", "file:///base/lake"),
        ("/lake", "file:///lake"),
        ("file://lake", "file:///base/lake"),
        ("file:///lake", "file:///lake"),
        ("sqlite:///x.db", "sqlite:////base/x.db"),
        ("sqlite:////x.db", "sqlite:////x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("s3://bucket/x", "s3://bucket/x"),
    ],
)
def test_addresses_become_absolute(address: str, wanted: str) -> None:
    assert absolute_address(address, Path("/base")) == wanted


def test_a_child_that_gets_the_environment_has_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {
        "home": str(tmp_path / "h"),
        "serve.port": 0,
        "kafka.options.sasl.password": "x",
        "log.level": "DEBUG",
        "database": "postgresql://u:p@h/d",
    }
    settings = load_settings(flags, tmp_path)
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAYPLAT_PLATFORM", "the marker of a platform's own processes is no setting")
    (tmp_path / "elsewhere").mkdir()
    assert load_settings(cwd=tmp_path / "elsewhere") == settings
