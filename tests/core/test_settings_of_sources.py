"""The settings of sources: databases by name, whose passwords are never shown, reach a job unharmed."""

from pathlib import Path

import pytest

from rayplat.core.settings_environment import as_environment
from rayplat.core.settings_sources import explain, load_settings


def test_a_database_is_named_in_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rayplat.toml").write_text('[databases]\nshop = "postgresql://u:secret@h/shop"\n')
    monkeypatch.setenv("RAYPLAT_DATABASES", '{"crm": "sqlite:///crm.db"}')
    settings = load_settings(cwd=tmp_path)
    assert settings.databases == {"shop": "postgresql://u:secret@h/shop", "crm": "sqlite:///crm.db"}
    shown = {e.key: e.value for e in explain(cwd=tmp_path)}
    assert shown["databases.shop"] == "postgresql://u:***@h/shop"
    assert ":secret@" not in repr(settings)


def test_they_reach_a_job_through_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {
        "databases.shop": "postgresql://u:p@h/d",
        "kinesis.trimmed": "accept",
        "files.settle_s": 0,
        "schema_registry.password": "x",
    }
    settings = load_settings(flags, tmp_path)
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "elsewhere").mkdir()
    assert load_settings(cwd=tmp_path / "elsewhere") == settings
    assert settings.files.settle_s == 0


def test_secrets_of_sources_are_masked(tmp_path: Path) -> None:
    keys = ("kinesis.access_key", "kinesis.secret_key", "schema_registry.password")
    shown = {e.key: e.value for e in explain(dict.fromkeys(keys, "hidden"), tmp_path)}
    assert [shown[key] for key in keys] == ["***"] * 3
