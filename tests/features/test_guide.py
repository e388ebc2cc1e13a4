"""The guide to features says what is so: its examples are run, from top to bottom."""

import re
from pathlib import Path

from rayplat.core.project.validate import validate

_GUIDE = Path(__file__).parents[2] / "docs" / "features.md"


def test_the_examples_of_the_guide_run_and_hold_together(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", _GUIDE.read_text(), flags=re.DOTALL)
    assert len(blocks) > 5
    file = tmp_path / "guide.py"  # a Python feature's code must be readable
    file.write_text("\n".join(blocks))
    names = {"folder": tmp_path, "__name__": "guide"}
    exec(compile(file.read_text(), str(file), "exec"), names)
    assert [fault.what for fault in validate(names["shop"])] == []
