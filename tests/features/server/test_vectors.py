"""A vector over HTTP: an array of numbers, its float32 elements exactly; null where there is none."""

from pathlib import Path

from tests.features.server import vector_world
from tests.features.server.running import serving


def test_a_vector_is_an_array_of_its_elements(tmp_path: Path) -> None:
    told = vector_world.fill(tmp_path)
    first, second = told["embedding"].to_list()
    with serving(tmp_path, world=vector_world.__name__) as server:
        answer = server.ask("POST", "/v1/features/last", {"keys": ["a", "b", "nobody"]})
        assert answer.status == 200
        assert answer.json["values"] == [[first], [second], [None]]
        asked = {"features": ["last:embedding"], "entities": {"author": ["a", "b"]}}
        answer = server.ask("POST", "/get-online-features", asked)
        assert answer.status == 200
        assert answer.json["results"][-1]["values"] == [first, second]
