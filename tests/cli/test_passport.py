import io

from rich.console import Console

from rayplat.cli.passport import passport_tree
from rayplat.governance.node import Node, Passport


def test_a_passport_is_a_tree_in_which_doubt_stands_out() -> None:
    run = Node("run", "r1", {"roc_auc": 0.75, "note": "a [b]"}, state="broken")
    root = Node(
        "prediction", "prd_1", {"probability": 0.5}, (run, Node("alias", "champion", state="unknown"))
    )
    out = io.StringIO()
    Console(file=out, width=100).print(passport_tree(Passport("prd_1", root)))
    lines = [line.lstrip("│├└─ ").rstrip() for line in out.getvalue().splitlines()]
    assert lines == [
        "prediction  prd_1",
        "probability: 0.5",
        "run (broken)  r1",
        "roc_auc: 0.75",
        "note: a [b]",
        "alias (unknown)  champion",
    ]
