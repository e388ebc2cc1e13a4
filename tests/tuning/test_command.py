"""`rayplat tune` as it is typed: from tables to a candidate in the registry, and the study's page."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
from datetime import UTC, datetime, timedelta
import numpy as np
import polars as pl
import rayplat as rp

random = np.random.default_rng(1)
COUNT = 1200
own = random.normal(size=COUNT)
at = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(COUNT)]
known = pl.Series([t + timedelta(minutes=5) for t in at]).cast(pl.Datetime("us", "UTC"))


def read_asked():
    times = pl.Series(at).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"id": np.arange(COUNT), "at": times, "own": own}).to_arrow()


def read_outcome():
    good = own + 0.5 * np.random.default_rng(2).normal(size=COUNT) > 0
    return pl.DataFrame({"id": np.arange(COUNT), "at": known, "good": good}).to_arrow()


clicks = rp.Project("tuned", owner="ops@example.com")
asked = clicks.table("raw.tune_asked", key="id", event_time="at", source=rp.Reference(read_asked),
    columns={"id": "int64", "at": "timestamp", "own": "float64"})
outcome = clicks.table("raw.tune_outcome", key="id", event_time="at", source=rp.Reference(read_outcome),
    columns={"id": "int64", "at": "timestamp", "good": "bool"})
view = clicks.request_view("tune_own", source=asked, features={"a": pl.col("own"), "b": pl.col("own") * 2})


def network(inputs):
    from rayplat.train.tabular import TabularNet
    return TabularNet(inputs, hidden=(8,))


@clicks.model("tuned_click", rows=asked, label=rp.Label(outcome, pl.col("good"), on="id"), features=[view],
    train_until="2026-02-05", test_until="2026-02-15", network=network, workers=(1, 1),
    space=rp.Space(lr=rp.Float(1e-5, 1e-1, log=True), decays=rp.Choice((True, False)),
        weight_decay=rp.Float(1e-6, 1e-1, log=True, when={"decays": True})))
def train(run):
    from rayplat.train.loop import fit
    fit(run, epochs=3, batch_size=128, lr=run.params["lr"], weight_decay=run.params.get("weight_decay", 0.0))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_from_the_shell_to_a_candidate_in_the_registry_and_a_page(ray_session, tmp_path):
    project = tmp_path / "tuned.py"
    project.write_text(PROJECT)

    def rayplat(*args):
        where = ["--home", str(ray_session.home), "-o", "json"]
        command = [sys.executable, "-m", "rayplat.cli", *args, *where]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    rayplat("ingest", "run", str(project), "--once")
    found = rayplat("tune", str(project), "--trials", "6", "--stopper", "asha")
    assert (found["trials"], found["why"]) == (6, "the cap of 6 trials is reached")
    assert 1e-5 <= found["params"]["lr"] <= 1e-1
    assert ("weight_decay" in found["params"]) == found["params"]["decays"]
    shown = rayplat("models", "show", "tuned_click@candidate")
    assert (shown["version"]["name"], shown["version"]["version"]) == ("tuned_click", found["candidate"])
    page = Path(rayplat("tune", "page", "tuned_click", "--to", str(tmp_path / "s.html"))["page"]).read_text()
    assert "Study tuned_click" in page
