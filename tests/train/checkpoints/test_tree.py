import json

import pytest
import torch

from rayplat.core.errors import UserError
from rayplat.train.checkpoints.tree import join, part, plain
from tests.train.checkpoints.states import same, state


def test_a_state_comes_back_as_it_was():
    skeleton, tensors = part(state(5))
    assert same(join(json.loads(json.dumps(skeleton)), tensors.__getitem__), state(5))
    assert {"network/weight", "optimizer/state/0/step", "network/none%20of%20it"} < set(tensors)


@pytest.mark.parametrize(
    "value",
    [{}, [], (), {"$tensor": "no tensor"}, {"$items": 1}, {1: {2: (3,)}}, {"a": {True: None}}, "x", None],
)
def test_what_json_would_confuse_is_kept_apart(value):
    skeleton, tensors = part(value)
    assert tensors == {}
    assert same(plain(json.loads(json.dumps(skeleton))), value)


def test_what_cannot_be_kept_is_told_with_its_place():
    with pytest.raises(UserError, match=r"a set at 'a/1'"):
        part({"a": [1, {2}]})
    with pytest.raises(UserError, match="both called 'a/1'"):
        part({"a": {1: torch.zeros(1), "1": torch.zeros(1)}})


def test_tensors_where_none_are_wanted():
    skeleton, _ = part({"a": torch.zeros(1)})
    with pytest.raises(UserError, match="tensor at 'a'"):
        plain(skeleton)
