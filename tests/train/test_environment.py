"""What differs between two environments, machines and diffs is told in words."""

import subprocess
from types import SimpleNamespace

from rayplat.train.code import code_diff
from rayplat.train.environment import changes, environment_lock, hardware, lock_changes


def test_the_lock_names_every_package_once_sorted():
    lines = environment_lock().splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert any(line.startswith("torch==") for line in lines)


def test_changed_packages_are_told_and_many_are_counted():
    then = "a==1\nb==2\nc==3\n"
    assert lock_changes(then, then) == []
    assert lock_changes(then, "a==1\nb==5\nd==4\n") == [
        "environment: b was 2 and is 5",
        "environment: c was 3 and is missing",
        "environment: d was missing and is 4",
    ]
    many = lock_changes("", "".join(f"p{n}==1\n" for n in range(20)))
    assert len(many) == 9
    assert many[-1] == "environment: 12 more packages differ"


def test_hardware_is_compared_part_by_part():
    now = hardware()
    assert changes("hardware", now, now) == []
    other = {**now, "gpu": "H100"}
    assert changes("hardware", other, now) == [f"hardware: gpu was H100 and is {now['gpu']}"]


def test_the_diff_shows_changes_of_the_folder_and_names_unknown_files(tmp_path):
    project = SimpleNamespace(where=SimpleNamespace(file=str(tmp_path / "project.py")))
    (tmp_path / "project.py").write_text("a = 1\n")
    assert code_diff(project) == ""
    for command in (
        ["init", "-q"],
        ["add", "project.py"],
        ["-c", "user.email=a@b.c", "-c", "user.name=a", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert code_diff(project) == ""
    (tmp_path / "project.py").write_text("a = 2\n")
    (tmp_path / "data.csv").write_text("secret")
    told = code_diff(project)
    assert "-a = 1" in told
    assert "+a = 2" in told
    assert "untracked: data.csv" in told
    assert "secret" not in told
