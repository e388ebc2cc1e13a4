"""The checks on the repository's files, and on files that were tampered with: each fault is found."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayplat.cluster.check.aws import check_aws
from rayplat.cluster.check.finding import Finding
from rayplat.cluster.check.gcp import check_gcp
from rayplat.cluster.check.kuberay import check_config_map, check_kuberay
from rayplat.cluster.check.launcher import check_launcher
from rayplat.cluster.check.run import check_targets
from rayplat.cluster.check.security import check_kuberay_security, check_launcher_security
from rayplat.cluster.spec import load_spec

FOLDER = Path(__file__).parents[3] / "cluster"
SPEC = load_spec(FOLDER / "platform.yaml")
Change = Callable[[Any], Any]


def _document(target: str) -> Any:
    return yaml.safe_load((FOLDER / f"{target}.yaml").read_text())


def _documents() -> Any:
    return list(yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text()))


def _failures(findings: list[Finding]) -> list[str]:
    return [f"{f.check}: {f.what}" for f in findings if f.state == "failed"]


@pytest.mark.parametrize("target", ["gcp", "kuberay", "local"])
def test_the_repositorys_files_pass_every_check(target: str) -> None:
    findings = check_targets(SPEC, FOLDER, [target])
    assert {f.state for f in findings} == {"passed"}
    wanted = {"local": {"fresh", "groups"}, "gcp": {"schema", "resources", "security", "launch"}}
    assert wanted.get(target, {"schema", "autoscaler", "security"}) <= {f.check for f in findings}


def test_on_a_simulated_ec2_nodes_come_and_go_and_a_wrong_machine_is_an_error() -> None:
    document = _document("aws")
    findings = check_aws(document)
    assert [(f.check, f.state) for f in findings] == [("machines", "passed"), ("launch", "passed")]
    assert "5 nodes bootstrapped, started, looked at, ended" in findings[1].what

    changed = copy.deepcopy(document)
    changed["available_node_types"]["gpu-l4"]["node_config"]["InstanceType"] = "g6.xlarge"
    _config(changed)["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] = False
    faults = _failures(check_aws(changed))
    assert any("gpu-l4 promises CPU: 8, and g6.xlarge has 4" in fault for fault in faults)
    assert any("cpu: encrypted disks is [False]" in fault for fault in faults)

    unknown = copy.deepcopy(document)
    _config(unknown)["InstanceType"] = "m6i.huge"
    (fault,) = _failures(check_aws(unknown))
    assert "m6i.huge is not available" in fault


def test_a_node_that_compute_engine_does_not_know_is_an_error() -> None:
    document = _document("gcp")
    config = document["available_node_types"]["cpu"]["node_config"]
    config["shieldedInstanceConfig"]["enableEverything"] = True
    config["scheduling"] = [{"preemptible": True}]
    (fault,) = _failures(check_gcp(document))
    assert "enableEverything" in fault or "is not of type 'object'" in fault


LAUNCHER: list[tuple[str, str, Change]] = [
    ("aws", "metadata service", lambda d: _config(d).pop("MetadataOptions")),
    ("aws", "opens SSH to the world", lambda d: _config(d).pop("SecurityGroupIds")),
    ("aws", "disk is not encrypted", lambda d: _config(d).pop("BlockDeviceMappings")),
    ("aws", "no instance profile", lambda d: _config(d).pop("IamInstanceProfile")),
    ("aws", "no ImageId", lambda d: _config(d).pop("ImageId")),
    ("aws", "not delivered", lambda d: d["file_mounts"].pop("~/.ray/auth_token")),
    ("aws", "unreadable for others", lambda d: d["setup_commands"].pop(0)),
    ("aws", "not pinned", lambda d: _replace(d, "setup_commands", "==2.60.0", "")),
    ("aws", "nightly", lambda d: d["setup_commands"].append("pip install https://x/latest/ray.whl")),
    ("aws", "listens on all", lambda d: _replace(d, "head_start_ray_commands", "127.0.0.1", "0.0.0.0")),
    ("gcp", "without token", lambda d: _replace(d, "worker_start_ray_commands", "RAY_AUTH_MODE=token", "")),
    ("gcp", "0.0.0.0/0 may come in", lambda d: d["provider"].update(open=["0.0.0.0/0"])),
    ("gcp", "no service account", lambda d: _config(d).pop("serviceAccounts")),
    ("gcp", "no network tag", lambda d: _config(d).pop("tags")),
]


_ASKS = "ray health-check"
# Places where the head's commands speak of the token: part of the command, what is changed, what is told.
HEAD: list[tuple[str, str, str, str]] = [
    (
        "head.env.sh) &&",
        "export RAY_AUTH_MODE=token ",
        "export ",
        "rayplat-head.service: `exec ray start --head`",
    ),
    ("head.env.sh) &&", "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "without token authentication"),
    ("head.env.sh) &&", "export RAY_AUTH_MODE=token", "RAY_AUTH_MODE=token; export", "without token"),
    ("head.env.sh) &&", "ulimit -n 65536", "export RAY_AUTH_MODE=disabled", "without token"),
    ("head.env.sh) &&", "$HOME/.ray/auth_token", "/tmp/token", "reads another token"),
    ("head.env.sh) &&", "ulimit -n 65536", "export RAY_AUTH_TOKEN=abc", "the token itself"),
    (
        "> $HOME/.rayplat/rayplat-head.sh",
        ". $HOME/.rayplat/head.env.sh",
        "",
        "rayplat-head.service: `exec ray",
    ),
    ("> $HOME/.rayplat/rayplat-head.sh", "exec ray start", "echo", "the head: nothing starts Ray"),
    ("> $HOME/.rayplat/rayplat-costs.sh", ". $HOME/.rayplat/head.env.sh", "", "rayplat-costs.service: `exec"),
    ("tee /etc/systemd/system/rayplat-head", "rayplat-head.sh", "other.sh", "is not written down"),
    ("> $HOME/.rayplat/rayplat-head.sh", "host=127.0.0.1", "host 0.0.0.0", "listens on all interfaces"),
    (_ASKS, "RAY_AUTH_MODE=token", "", "the head: `do env RAY_AUTH_TOKEN_PATH"),
]


@pytest.mark.parametrize("target", ["aws", "gcp"])
@pytest.mark.parametrize(("place", "old", "new", "told"), HEAD, ids=[f"{c[0][:20]} {c[2]}" for c in HEAD])
def test_the_token_is_asked_of_each_place_by_itself(
    target: str, place: str, old: str, new: str, told: str
) -> None:
    document = _document(target)
    commands = document["head_start_ray_commands"]
    (at,) = [at for at, command in enumerate(commands) if place in command]
    assert old in commands[at]
    commands[at] = commands[at].replace(old, new)
    assert any(told in fault for fault in _failures(check_launcher_security(target, document)))


def test_only_the_question_holds_the_token_and_every_service_is_told() -> None:
    document = _document("aws")
    document["head_start_ray_commands"] = [
        command if _ASKS in command else command.replace("RAY_AUTH_MODE=token", "")
        for command in document["head_start_ray_commands"]
    ]
    faults = [
        fault for fault in _failures(check_launcher_security("aws", document)) if "without token" in fault
    ]
    for unit in ("rayplat-head", "rayplat-recorder", "rayplat-costs"):
        assert any(f"{unit}.service" in fault for fault in faults)


def test_what_the_launcher_was_started_with_may_not_come_after_the_token() -> None:
    document = _document("aws")
    (tells,) = [c for c in document["head_start_ray_commands"] if "export -p" in c]
    added = "export -p | grep RAY_ >> $HOME/.rayplat/head.env.sh"
    document["head_start_ray_commands"].insert(document["head_start_ray_commands"].index(tells) + 1, added)
    faults = _failures(check_launcher_security("aws", document))
    for unit in ("rayplat-head", "rayplat-recorder", "rayplat-costs"):
        assert any(f"{unit}.service" in f and "without token" in f for f in faults)


def test_start_commands_that_are_no_shell_are_told() -> None:
    document = _document("aws")
    document["worker_start_ray_commands"].append("echo 'open")
    (fault,) = _failures(check_launcher_security("aws", document))
    assert "the worker's start commands are no shell" in fault


def _config(document: Any) -> Any:
    return document["available_node_types"]["cpu"]["node_config"]


def _replace(document: Any, key: str, old: str, new: str) -> None:
    document[key] = [command.replace(old, new) for command in document[key]]


@pytest.mark.parametrize(("target", "told", "change"), LAUNCHER, ids=[one[1] for one in LAUNCHER])
def test_an_opening_in_a_launcher_file_is_found(target: str, told: str, change: Change) -> None:
    document = _document(target)
    assert _failures(check_launcher_security(target, document)) == []
    change(document)
    assert any(told in fault for fault in _failures(check_launcher_security(target, document)))


GROUPS: list[tuple[str, Change]] = [
    ("max: 8 is 3, not 8", lambda t: t["cpu"].update(max_workers=3)),
    ("spot", lambda t: t["cpu-spot"]["node_config"].pop("InstanceMarketOptions")),
    ("labels", lambda t: t["gpu-l4-spot"]["labels"].pop("purpose")),
    ("resources", lambda t: t["cpu-spot"]["resources"].update(CPU=16)),
    ("idle_timeout_s", lambda t: t["cpu-spot"].update(idle_timeout_s=1)),
]


@pytest.mark.parametrize(("told", "change"), GROUPS, ids=[one[0] for one in GROUPS])
def test_a_group_that_was_changed_on_the_way_is_found(told: str, change: Change) -> None:
    document = _document("aws")
    change(document["available_node_types"])
    (fault,) = _failures(check_launcher("aws", SPEC, document))
    assert told.partition(":")[0] in fault


def test_what_rays_schema_refuses_is_told_in_its_words() -> None:
    document = _document("aws")
    document["available_node_types"]["cpu"]["resources"]["CPU"] = "eight"
    (fault,) = _failures(check_launcher("aws", SPEC, document))
    assert "'eight' is not of type 'integer'" in fault
    document = _document("aws")
    document["available_node_types"]["cpu"]["resources"] = {}
    assert any(
        "resources: cpu: no CPU or no memory" in f for f in _failures(check_launcher("aws", SPEC, document))
    )


KUBERAY: list[tuple[str, Change]] = [
    ("token authentication", lambda s: s.pop("authOptions")),
    ("network policy", lambda s: s.pop("networkPolicy")),
    ("way in from outside", lambda s: s["headGroupSpec"].update(serviceType="LoadBalancer")),
    ("ask the API server", lambda s: _pod(s).pop("automountServiceAccountToken")),
    ("become root", lambda s: _pod(s)["containers"][0].pop("securityContext")),
    ("not pinned", lambda s: _pod(s)["containers"][0].update(image="rayproject/ray:latest")),
]


def _recorder(spec: Any) -> Any:
    return spec["headGroupSpec"]["template"]["spec"]["initContainers"][0]


KUBERAY += [
    ("rayplat-recorder does not run", lambda s: _recorder(s).update(name="other")),
    ("not started again", lambda s: _recorder(s).pop("restartPolicy")),
    ("rayplat-recorder: starts without token", lambda s: _recorder(s).update(env=[])),
    ("the token out of a Secret", lambda s: _told_plainly(_recorder(s))),
    ("rayplat-recorder: may become root", lambda s: _recorder(s).pop("securityContext")),
]


def _told_plainly(container: Any) -> None:
    """As a value of its own: whoever may read the file could then use it."""
    container["env"] = [
        {"name": "RAY_AUTH_TOKEN", "value": "abc"} if one["name"] == "RAY_AUTH_TOKEN" else one
        for one in container["env"]
    ]


def test_the_cluster_file_on_kubernetes_is_the_one_here() -> None:
    documents = _documents()
    assert _failures(check_config_map(SPEC, documents)) == []
    (config,) = [document for document in documents if document["kind"] == "ConfigMap"]
    config["data"]["platform.yaml"] = config["data"]["platform.yaml"].replace("eu-central-1", "eu-west-1")
    assert any("holds another" in told for told in _failures(check_config_map(SPEC, documents)))
    assert any("0 ConfigMaps" in told for told in _failures(check_config_map(SPEC, documents[:1])))


def _pod(spec: Any) -> Any:
    return spec["workerGroupSpecs"][0]["template"]["spec"]


@pytest.mark.parametrize(("told", "change"), KUBERAY, ids=[one[0] for one in KUBERAY])
def test_an_opening_in_kuberays_resources_is_found(told: str, change: Change) -> None:
    documents = _documents()
    change(documents[0]["spec"])
    assert any(told in fault for fault in _failures(check_kuberay_security(documents)))


@pytest.mark.parametrize(
    ("told", "change"),
    [
        ("'maxReplica' was unexpected", lambda s: s["workerGroupSpecs"][0].update(maxReplica=3)),
        ("is not of type 'integer'", lambda s: s["workerGroupSpecs"][0].update(maxReplicas="3")),
        ("is a required property", lambda s: s["headGroupSpec"].pop("template")),
        ("'v3' is not one of", lambda s: s["autoscalerOptions"].update(version="v3")),
        ("group 'cpu' does not come through", lambda s: s["workerGroupSpecs"][0].update(maxReplicas=9)),
    ],
)
def test_what_kuberays_schema_or_the_spec_refuses_is_found(told: str, change: Change) -> None:
    documents = _documents()
    change(documents[0]["spec"])
    assert any(told in fault for fault in _failures(check_kuberay(SPEC, documents)))


def test_int_or_string_and_free_fields_are_accepted() -> None:
    documents = _documents()
    container = _pod(documents[0]["spec"])["containers"][0]
    container["resources"]["limits"]["cpu"] = 8
    container["livenessProbe"] = {"httpGet": {"path": "/", "port": "dashboard"}}
    assert _failures(check_kuberay(SPEC, documents)) == []


def test_a_stale_an_absent_and_a_broken_file_are_told(tmp_path: Path) -> None:
    findings = check_targets(SPEC, tmp_path, ["local"])
    assert [f.state for f in findings] == ["passed", "failed"]
    assert "is not there" in findings[1].what
    (tmp_path / "local.yaml").write_text("a: [")
    told = _failures(check_targets(SPEC, tmp_path, ["local"]))
    assert any("is not what the cluster file makes" in t for t in told)
    assert any("cannot be read as what it should be" in t for t in told)


def test_another_ray_than_the_pinned_one_is_told(tmp_path: Path) -> None:
    other = SPEC.model_copy(update={"ray": SPEC.ray.model_copy(update={"version": "2.1.0"})})
    assert any("pins Ray 2.1.0" in t for t in _failures(check_targets(other, tmp_path, ["local"])))
