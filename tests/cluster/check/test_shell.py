"""What start commands come to: what is exported by the time that a program starts, and what is written."""

import pytest

from rayplat.cluster.check.shell import starts, unit_starts, written


def _variables(text: str, **files: str) -> dict[str, str]:
    """What `ray start` is started with."""
    (one,) = [start for start in starts(text, files) if start.runs("ray", "start")]
    return dict(one.variables)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("export A=1 B='x y'; ray start", {"A": "1", "B": "x y"}),
        ("export A=1\nexport A=2\n/opt/bin/ray start --head", {"A": "2"}),
        ("A=1 ray start", {"A": "1"}),
        ("env A=1 ray start", {"A": "1"}),
        ("A=1\nray start", {}),
        ("A=1; ray start", {}),
        ("ray start; export A=1", {}),
        ("(export A=1); ray start", {}),
        ("export A=1; (export A=2; true); ray start", {"A": "1"}),
        ("export A=1 && (ray start)", {"A": "1"}),
        ("echo 'export A=1'; ray start", {}),
        (". there; ray start", {"A": "1"}),
        (". elsewhere; ray start", {}),
        ("export A=1; . elsewhere; ray start", {}),
        (". elsewhere; export A=1; ray start", {"A": "1"}),
        ("(. there); ray start", {}),
    ],
)
def test_a_variable_counts_where_the_program_would_see_it(text: str, found: dict[str, str]) -> None:
    assert _variables(text, there="export A=1") == found


def test_the_last_text_of_a_path_is_what_a_unit_runs() -> None:
    commands = [
        "(umask 077; printf %s 'ray start' > ~/a.sh)",
        "printf %s 'export A=1\nray start' > $HOME/a.sh",
        "printf %s '[Service]\nExecStart=/bin/bash @HOME@/a.sh\n' | sed s/a/a/ | sudo tee /etc/u >/dev/null",
    ]
    files = written(commands)
    assert files["$HOME/a.sh"] == "export A=1\nray start"
    (start,) = unit_starts(files)["/etc/u"]
    assert start.words == ("ray", "start")
    assert start.variables == {"A": "1"}


def test_what_is_added_to_a_file_may_set_anything() -> None:
    commands = ["printf %s 'export A=1' > ~/a.sh", "export -p | grep RAY >> ~/a.sh"]
    (start,) = starts(". ~/a.sh; ray start", written(commands))
    assert start.variables == {}
    again = written([*commands, "printf %s 'export A=2' > ~/a.sh"])
    (start,) = starts(". ~/a.sh; ray start", again)
    assert start.variables == {"A": "2"}


def test_a_quote_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match="quotation"):
        starts("echo 'open", {})
