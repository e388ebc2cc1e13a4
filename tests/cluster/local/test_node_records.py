"""Simulated nodes on paper: found again by another process, alive only while their raylet is."""

import os
from pathlib import Path

import psutil

from rayplat.cluster.local.node_records import SimulatedNode, forget_node, read_nodes, write_node
from rayplat.cluster.processes import ProcessRecord


def test_a_node_is_read_as_it_was_written_and_forgotten(tmp_path: Path) -> None:
    me = ProcessRecord("raylet", os.getpid(), psutil.Process().create_time())
    gone = ProcessRecord("raylet", os.getpid(), 1.0)  # the id is another's now
    here = SimulatedNode("a", {"kind": "worker"}, (me,), ("raylet.1.out",))
    write_node(tmp_path, here)
    write_node(tmp_path, SimulatedNode("b", {}, (gone,)))
    found = read_nodes(tmp_path)
    assert found["a"] == here
    assert (found["a"].alive(), found["b"].alive()) == (True, False)
    forget_node(tmp_path, "a")
    forget_node(tmp_path, "a")
    assert set(read_nodes(tmp_path)) == {"b"}
