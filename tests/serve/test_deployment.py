import importlib
from pathlib import Path

import orjson
import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from rayplat.cluster.render.kuberay import kuberay_documents
from rayplat.cluster.spec import load_spec
from rayplat.core.project.serving import Answering, Autoscale, Hours, Logging, Traffic
from rayplat.core.settings import Settings
from rayplat.serve.deployment import file, options
from rayplat.serve.replicas.in_serve import Wanted
from rayplat.serve.spec import EndpointSpec

PLATFORM = Path(__file__).parents[2] / "cluster" / "platform.yaml"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")


def _spec(home, **changes):
    told = {
        "settings": Settings.model_validate({"home": home, "serve": {"front_port": 9000, "log": "database"}}),
        "project": "shop/project.py",
        "definitions_sha256": "d" * 64,
        "endpoint": "buys",
        "model": "buys",
        "version": 3,
        "artifact_uri": "file:///artifact",
        "manifest_sha256": "e" * 64,
        "autoscale": Autoscale(
            0, 4, gpus=0.5, ongoing=3, calm_s=1.0, schedule=(Hours("11:30", "13:00", 2, ("mon",)),)
        ),
        "answering": Answering(batch=16, at_once=32, default=0.2),
        "logging": Logging(sample=0.5),
        "traffic": Traffic(0.1, 1.0, by="shop"),
        "kept": True,
    }
    return EndpointSpec(**{**told, **changes})


def test_a_spec_survives_json_and_every_part_of_it_counts(tmp_path):
    spec = _spec(tmp_path)
    again = EndpointSpec.from_json(orjson.loads(orjson.dumps(spec.to_json())))
    assert again == spec
    assert again.fingerprint() == spec.fingerprint()
    for change in (
        {"autoscale": Autoscale(0, 4)},
        {"answering": Answering()},
        {"logging": Logging()},
        {"traffic": Traffic()},
        {"kept": False},
        {"version": 4},
    ):
        assert _spec(tmp_path, **change).fingerprint() != spec.fingerprint()


def test_the_file_is_taken_by_serve_deploy_and_a_rayservice_as_it_is(tmp_path):
    spec = _spec(tmp_path)
    text = yaml.safe_dump(file([spec], spec.settings), sort_keys=False)
    taken = ServeDeploySchema.model_validate(yaml.safe_load(text))
    (application,) = taken.applications
    assert application.route_prefix == "/endpoints/buys"
    (deployment,) = application.deployments
    assert deployment.max_ongoing_requests == 32
    assert deployment.ray_actor_options.num_gpus == 0.5
    scale = AutoscalingConfig.model_validate(deployment.autoscaling_config)
    assert (scale.min_replicas, scale.initial_replicas, scale.max_replicas) == (0, 1, 4)
    assert scale.policy.policy_kwargs["endpoint"] == "buys"
    service = next(one for one in kuberay_documents(load_spec(PLATFORM)) if one["kind"] == "RayService")
    template = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    service["spec"]["serveConfigV2"] = text
    assert type(template) is type(taken)
    assert yaml.safe_load(yaml.safe_dump(service))["spec"]["serveConfigV2"] == text


def test_without_a_keeper_serve_follows_the_load_itself_and_a_fixed_number_is_fixed(tmp_path):
    scale = options(_spec(tmp_path, kept=False))["autoscaling_config"]
    assert (scale["target_ongoing_requests"], scale["downscale_delay_s"]) == (3, 1.0)
    assert "policy" not in scale
    assert options(_spec(tmp_path, autoscale=Autoscale(2, 2)))["num_replicas"] == 2


class Context:
    def __init__(self, requests, target):
        self.total_num_requests = requests
        self.target_num_replicas = target


def test_serve_is_told_what_the_keeper_wants_or_what_its_own_door_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    policy = Wanted(str(tmp_path), 9000, "buys", 4.0)
    assert policy(Context(0, 2)) == (2, {})  # nobody has said anything yet: as it is
    folder = tmp_path / "front" / "here" / "keeper-9000"
    folder.mkdir(parents=True)
    (folder / "buys.wanted").write_text("3")
    assert policy(Context(0, 0)) == (3, {})
    assert policy(Context(17, 0)) == (5, {})


def test_the_file_opens_the_grpc_door_where_there_is_a_port(tmp_path):
    spec = _spec(tmp_path)
    assert "grpc_options" not in file([spec], spec.settings)
    serve = spec.settings.serve.model_copy(update={"grpc_port": 9001})
    settings = spec.settings.model_copy(update={"serve": serve})
    taken = ServeDeploySchema.model_validate(file([spec], settings))
    assert taken.grpc_options.port == 9001
    (servicer,) = taken.grpc_options.grpc_servicer_functions
    module, _, name = servicer.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
