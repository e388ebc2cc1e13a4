"""cluster/gcp.yaml against Google's own SDK: every request by the discovery document, answered in memory.

Knows which calls the launcher makes and what a node must be; it never reaches GCP, so a quota, an image
or a machine that a zone lacks is not found here.
"""

import copy
import importlib.util
from typing import Any

from rayplat.cluster.check.discovery import body_faults, client
from rayplat.cluster.check.finding import Finding, failed, last_words, passed, silent, skipped
from rayplat.cluster.check.launcher import prepared
from rayplat.core.errors import UserError

_MEND = "correct the gcp part of the cluster file, or the group's gcp.machine_type"


def check_gcp(document: dict[str, Any]) -> list[Finding]:
    """Bootstrap the cluster, create a node of each type, look at it, end it."""
    if importlib.util.find_spec("googleapiclient") is None:
        what = "google-api-python-client is not installed"
        return [skipped("gcp", "launch", what, "pip install 'rayplat[gcp]'")]
    with silent() as said:
        try:
            config = _bootstrapped(document)
            return _launch(config)
        except (Exception, SystemExit) as error:  # the launcher's, the SDK's and our own
            return [failed("gcp", "launch", last_words(said, error), _MEND)]


def _bootstrapped(document: dict[str, Any]) -> dict[str, Any]:
    """The steps of Ray's bootstrap, in its order, with clients that are answered here."""
    from ray.autoscaler._private.gcp import config as launcher

    steps: Any = launcher  # its functions have no types

    config = prepared(document)
    # With a key of its own the launcher writes none into this user's home, nor into the project.
    config["auth"]["ssh_private_key"] = "/nonexistent/key"
    config["head_node"] = {}
    project = config["provider"]["project_id"]
    account = f"{steps.DEFAULT_SERVICE_ACCOUNT_ID}@{project}.iam.gserviceaccount.com"
    bindings = [
        {"role": role, "members": [f"serviceAccount:{account}"]}
        for role in steps.DEFAULT_SERVICE_ACCOUNT_ROLES
    ]
    crm = client(
        "cloudresourcemanager",
        "v1",
        {
            "cloudresourcemanager.projects.get": lambda _, __: {
                "projectId": project,
                "lifecycleState": "ACTIVE",
            },
            "cloudresourcemanager.projects.getIamPolicy": lambda _, __: {"bindings": copy.deepcopy(bindings)},
        },
    )
    iam = client(
        "iam",
        "v1",
        {"iam.projects.serviceAccounts.get": lambda _, __: {"email": account, "projectId": project}},
    )
    config = steps._configure_project(config, crm)
    config = steps._configure_iam_role(config, crm, iam)
    config = steps._configure_key_pair(config, None)
    ready: dict[str, Any] = steps._configure_subnet(config, None)
    return ready


class _Zone:
    """The instances of one zone, as Compute Engine would keep them."""

    def __init__(self) -> None:
        self.instances: dict[str, dict[str, Any]] = {}

    def insert(self, _: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        faults = body_faults("compute", "v1", "Instance", body)
        if faults:
            raise UserError(f"Compute Engine does not know the node: {'; '.join(faults[:3])}", _MEND)
        self.instances[body["name"]] = {**body, "status": "RUNNING"}
        return {"name": f"insert-{body['name']}", "status": "RUNNING"}

    def delete(self, parameters: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        name = parameters["path"].rpartition("/")[2]
        del self.instances[name]
        return {"name": f"delete-{name}", "status": "RUNNING"}

    def list(self, _: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
        return {"items": list(self.instances.values())}

    def client(self) -> Any:
        """Google's client of Compute Engine, answered by this zone."""
        return client(
            "compute",
            "v1",
            {
                "compute.instances.insert": self.insert,
                "compute.instances.delete": self.delete,
                "compute.instances.list": self.list,
                "compute.zoneOperations.get": lambda _, __: {"status": "DONE"},
            },
        )


def _launch(config: dict[str, Any]) -> list[Finding]:
    from ray.autoscaler._private.gcp.node import GCPCompute

    zone, provider = _Zone(), config["provider"]
    compute = GCPCompute(
        zone.client(), provider["project_id"], provider["availability_zone"], config["cluster_name"]
    )
    faults: list[Finding] = []
    for name, kind in config["available_node_types"].items():
        # As the launcher does it: what the head's own part adds, the node type overrides.
        own = config["head_node"] if name == config["head_node_type"] else {}
        labels = {"ray-node-name": f"ray-{config['cluster_name']}-check", "ray-user-node-type": name}
        ((_, node),) = compute.create_instances({**own, **kind["node_config"]}, labels, 1)
        faults += _look(name, zone.instances[node], kind["node_config"])
    started = [node["name"] for node in compute.list_instances({})]
    for node in started:
        compute.delete_instance(node)
    if zone.instances or len(started) != len(config["available_node_types"]):
        what = f"{len(started)} nodes started, {len(zone.instances)} left after they were ended"
        faults.append(failed("gcp", "launch", what, "report it, with the cluster file"))
    return faults or [
        passed("gcp", "launch", f"{len(started)} nodes bootstrapped, started, looked at, ended")
    ]


def _look(name: str, node: dict[str, Any], wanted: dict[str, Any]) -> list[Finding]:
    seen = {
        "machine": (node["machineType"].rpartition("/")[2], wanted["machineType"]),
        "service account": (node["serviceAccounts"], wanted["serviceAccounts"]),
        "market": (node.get("scheduling"), wanted.get("scheduling")),
        "interfaces": (node["networkInterfaces"], wanted["networkInterfaces"]),
    }
    return [
        failed(
            "gcp", "launch", f"{name}: {what} is {there!r}, not {here!r}", "report it, with the cluster file"
        )
        for what, (there, here) in seen.items()
        if there != here
    ]
