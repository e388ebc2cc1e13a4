"""What is kept of how a run was declared: also of a function, which has no JSON of its own."""

import json
import shutil
from pathlib import Path

from rayplat.core.project.load import load_project
from rayplat.train.goodput.report import GoodputReport
from rayplat.train.goodput.spending import Spending
from rayplat.train.record import RUN, parameters, record_files

PROJECT = Path(__file__).parent / "projects/recorded.py"


def test_a_preparation_is_recorded_by_its_name(tmp_path):
    shutil.copy(PROJECT, tmp_path / "prepared_project.py")
    (tmp_path / "training.json").write_text(json.dumps({"prepare": True}))
    project = load_project(str(tmp_path / "prepared_project.py"))
    files = record_files(project, project.models[0], GoodputReport("", Spending()), {}, {})
    flat = parameters(files[RUN].decode())
    assert flat["prepare.rows"] == "jittered"
    assert (flat["prepare.batches_a_task"], flat["prepare.cpus"]) == (4, 1.0)
    assert flat["checkpoints.last"] == 2
