import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT, Claim, cpu_seconds, interleave, printed_seconds, spread, table
from run_all import page, scripts

KEYS = ["claim", "unit", "rayplat", "peers", "ratio", "limit", "runs", "machine"]


def test_over_1_is_better_in_both_directions() -> None:
    quicker = Claim("a_s", "s", [1.0, 2.0, 3.0], {"ray": [8.0]})
    more = Claim("a_rows", "rows/s", [8.0], {"ray": [1.0, 2.0, 3.0], "mlflow": [16.0]}, higher_is_better=True)
    assert quicker.ratio("ray") == 4.0
    assert more.ratio("ray") == 4.0
    assert more.ratio("mlflow") == 0.5


def test_a_claim_is_one_line_with_exactly_these_keys() -> None:
    line = json.loads(json.dumps(Claim("a_s", "s", [1.0, 3.0], {"ray": [4.0]}, limit=0.5).as_dict()))
    assert list(line) == KEYS
    assert (line["rayplat"], line["peers"], line["ratio"]) == (2.0, {"ray": 4.0}, {"ray": 2.0})
    assert (line["limit"], line["runs"]) == (0.5, 2)
    assert line["machine"]["cores"] >= 1
    assert Claim("a_s", "s", [1.0]).as_dict()["limit"] is None


def test_candidates_take_turns_and_the_first_round_is_thrown_away() -> None:
    asked: list[str] = []

    def sample(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    samples = interleave({n: lambda n=n: sample(n) for n in "abc"}, 3)
    assert asked == ["a", "b", "c", "a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert samples["a"] == [4.0, 9.0, 11.0]


def test_a_bound_of_time_leaves_rounds_out_but_never_the_first() -> None:
    assert len(interleave({"a": lambda: 1.0}, 5, within_s=0.0)["a"]) == 1
    assert len(interleave({"a": lambda: 1.0}, 5, within_s=60.0)["a"]) == 5


def test_cpu_is_that_of_the_child_and_a_failure_is_told() -> None:
    busy = "import time\nbegin = time.process_time()\nwhile time.process_time() - begin < 0.2: pass"
    assert 0.2 <= cpu_seconds([sys.executable, "-c", busy]) < 2.0
    assert cpu_seconds([sys.executable, "-c", "import time; time.sleep(0.2)"]) < 0.2
    with pytest.raises(SystemExit, match="ended with 3"):
        cpu_seconds([sys.executable, "-c", "import sys; sys.exit(3)"])
    assert printed_seconds("print(0.25)") == 0.25


def test_the_table_shows_medians_and_ranges() -> None:
    text = table([Claim("a_s", "s", [1.0, 2.0, 3.0], {"ray": [4.0]}, limit=0.5), Claim("b_s", "s", [7.0])])
    assert "| `a_s` | s | 2 [1, 3] | ray 4 | 2.0 x ray | 0.5 | 3 |" in text
    assert "| `b_s` | s | 7 | - | - | - | 1 |" in text
    assert spread([1.0]) == "1"


def test_scripts_are_found_and_the_page_holds_them() -> None:
    assert "startup" in {path.stem for path in scripts(ROOT / "benchmarks")}
    text = page({"startup": "| a |"})
    assert "## startup\n\n| a |" in text


@pytest.mark.slow
def test_the_quick_startup_benchmark_prints_its_claims() -> None:
    done = subprocess.run(
        [sys.executable, Path("benchmarks") / "startup.py", "--quick", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=50,
    )  # fmt: skip
    claims = {line["claim"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(claims) == {"cli_help_cpu_s", "import_s"}
    assert all(list(line) == KEYS for line in claims.values())
    assert all(ratio > 1 for line in claims.values() for ratio in line["ratio"].values())
    assert claims["cli_help_cpu_s"]["rayplat"] < 0.3
    assert "demo_wall_s" in done.stderr
