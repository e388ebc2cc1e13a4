"""Faults of an endpoint's further models and of its generator."""

import pytest

import rayplat as rp
from rayplat.core.project.validate import validate


def _faults(**declared):
    project = rp.Project("shop", owner="ops@example.com")
    project.endpoint("buys", model="buys", **declared)
    # There is no model: that is a fault of its own.
    return [one.what for one in validate(project) if "the model 'buys'" not in one.what]


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"stream": 7}, "stream is 7"),
        ({"multiplex": "buys"}, "multiplex"),
        ({"multiplex": rp.Multiplex(models=("nothing",))}, "nothing"),
        ({"multiplex": rp.Multiplex(models="buys")}, "multiplex.models"),
        ({"multiplex": rp.Multiplex(versions=(0,))}, "multiplex.versions: 0"),
        ({"multiplex": rp.Multiplex(versions=[1])}, "multiplex.versions"),
        ({"multiplex": rp.Multiplex(kept=0)}, "multiplex.kept is 0"),
        ({"multiplex": rp.Multiplex(most_mib=-1.0)}, "multiplex.most_mib is -1.0"),
        ({"answering": rp.Answering(streams=0)}, "answering.streams is 0"),
        ({"answering": rp.Answering(stream_s=0)}, "answering.stream_s is 0"),
    ],
)
def test_a_wrong_value_is_told_by_its_name(declared, told):
    assert any(told in fault for fault in _faults(**declared)), _faults(**declared)


def test_right_values_have_no_fault():
    before = _faults()
    declared = {
        "stream": lambda run: iter(()),
        "multiplex": rp.Multiplex(versions=(1, 2), kept=1, most_mib=0.5),
    }
    assert _faults(**declared) == before
