"""Online features through Ray Serve: the same answers behind the door of the endpoints."""

import httpx

from rayplat.core.settings import Settings
from rayplat.serve.features import APPLICATION, deploy_features
from tests.features.server import world


def test_features_are_answered_through_serve(ray_session: Settings, tmp_path):
    from ray import serve

    world.fill(tmp_path)
    settings = ray_session.model_copy(update={"online": world.settings(tmp_path).online})
    url = deploy_features(settings, str(world.__file__), cpus=0.1)
    try:
        answer = httpx.post(f"{url}/v1/features/last", json={"keys": ["a", "nobody"]}, timeout=30)
        assert answer.status_code == 200
        assert [row[0] for row in answer.json()["values"]] == [2.5, None]
        assert httpx.post(f"{url}/v1/features/nowhere", json={"keys": []}, timeout=30).status_code == 404
    finally:
        serve.delete(APPLICATION)
