"""Reading the cluster file: defaults, and every fault with its place, the value seen and the mend."""

import pickle
from pathlib import Path

import pytest

from rayplat.cluster.spec import ClusterSpec, load_spec, parse_spec
from rayplat.cluster.spec.faults import SpecError
from rayplat.core.errors import UserError

ROOT = Path(__file__).parents[3]
HEAD = "groups:\n  head: {kind: head}\n"


def _faults(text: str) -> dict[str, tuple[int, int, str, str]]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "p.yaml")
    return {f.where.key: (f.where.line, f.where.column, f.what, f.mend) for f in caught.value.faults}


def test_the_repositorys_file_is_valid() -> None:
    spec = load_spec(ROOT / "cluster" / "platform.yaml")
    assert (spec.name, spec.head[0], list(spec.workers)) == ("rayplat", "head", ["cpu", "gpu-l4"])


def test_no_file_and_an_empty_file_mean_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    assert load_spec(tmp_path / "none.yaml") == load_spec(empty) == ClusterSpec()


@pytest.mark.parametrize(
    ("text", "key", "place", "seen", "mend"),
    [
        ("local: {cpus: -1}", "local.cpus", (1, 15), "-1", "at least 0"),
        ("name: UPPER", "name", (1, 7), "'UPPER'", "lower case"),
        ("nmae: x", "nmae", (1, 1), "no such key", "'name'"),
        ("zzz: 3", "zzz", (1, 1), "no such key", "there is: aws, budgets"),
        ("ray: {version: '2.60'}", "ray.version", (1, 16), "'2.60'", "write what matches"),
        ("image: rayproject/ray", "image", (1, 8), "no fixed version", "tag"),
        ("image: rayproject/ray:nightly", "image", (1, 8), "no fixed version", "tag"),
        ("ray: {wheel: https://x/ray.whl}", "ray.wheel", (1, 14), "not pinned", "sha256"),
        (
            "network: {ssh_from: [10.0.0.0/8, 0.0.0.0/0]}",
            "network.ssh_from.1",
            (1, 34),
            "whole world",
            "networks",
        ),
        ("network: {dashboard_from: [here]}", "network.dashboard_from.0", (1, 28), "'here'", "CIDR"),
        ("idle_timeout_s: soon", "idle_timeout_s", (1, 17), "'soon'", "a number"),
        ("teams: [a]", "teams", (1, 8), "['a']", "a mapping"),
        (
            "budgets: [{scope: team, name: '*', limit_usd: 5, warn_at: 2}]",
            "budgets.0",
            (1, 11),
            "warn_at 2",
            "<=",
        ),
        (
            "budgets: [{scope: city, name: x, limit_usd: 5}]",
            "budgets.0.scope",
            (1, 19),
            "'city'",
            "'team', 'project' or 'run'",
        ),
        (
            "platform: {database: 'postgresql://u:geheim@h/d'}",
            "platform.database",
            (1, 22),
            "password",
            "secrets_file",
        ),
        (
            "platform: {settings: {servee.port: 1}}",
            "platform.settings.servee.port",
            (1, 36),
            "no setting",
            "'serve.port'",
        ),
        (
            "platform: {settings: {s3.secret_key: x}}",
            "platform.settings.s3.secret_key",
            (1, 38),
            "secret",
            "secrets_file",
        ),
        (
            "aws: {region: eu-central-1, image_id: ami-01234567}",
            "aws.security_groups",
            (1, 1),
            "missing",
            "SSH",
        ),
        ("prices: {own: {gpu: {on_demand: 1}}}", "prices.own.gpu", (1, 21), "no group 'gpu'", "head"),
        ("teams: {a: {quota: {GPU: 1}}}", "teams.a.quota.GPU", (1, 26), "no group has", "CPU"),
        ("teams: {a: {members: [x]}, b: {members: [x]}}", "teams.b.members.0", (1, 42), "team 'a'", "one"),
        ("groups: {cpu: {kind: cpu}}", "groups", (1, 9), "no group is of kind head", "kind: head"),
        ("groups: {A: {kind: head}}", "groups.A", (1, 13), "'A'", "write what matches"),
        (
            "groups: {a: {kind: head}, b: {kind: head}}",
            "groups.b.kind",
            (1, 37),
            "both of kind head",
            "one of them",
        ),
        (
            "groups: {a: {kind: head, max: 2}}",
            "groups.a.max",
            (1, 31),
            "max 2",
            "always 1",
        ),
        (
            "groups: {a: {kind: head, spot: {share: 1}}}",
            "groups.a.spot",
            (1, 32),
            "spot",
            "remove spot",
        ),
        (
            f"{HEAD}  cpu: {{kind: cpu, gpus: 1}}",
            "groups.cpu.gpus",
            (3, 26),
            "kind cpu has GPUs",
            "kind: gpu",
        ),
        (f"{HEAD}  cpu: {{kind: cpu, min: 5}}", "groups.cpu.min", (3, 25), "min is 5, max is 1", "raise max"),
        (
            f"{HEAD}  g: {{kind: gpu, gpus: 1}}",
            "groups.g.kind",
            (3, 13),
            "names no accelerator",
            "accelerator: L4",
        ),
        (
            f"{HEAD}  c: {{kind: cpu}}\n  c-spot: {{kind: cpu}}",
            "groups.c-spot",
            (4, 11),
            "spot nodes of 'c'",
            "otherwise",
        ),
        (
            f"{HEAD}  c: {{kind: cpu, labels: {{ray.io/x: y}}}}",
            "groups.c.labels.ray.io/x",
            (3, 37),
            "'ray.io'",
            "otherwise",
        ),
        (
            f"{HEAD}  c: {{kind: cpu, aws: {{instance_type: m6i.xlrge}}}}",
            "groups.c.aws.instance_type",
            (3, 39),
            "'m6i.xlrge' is not in the catalogue",
            "'m6i.xlarge'",
        ),
    ],
)
def test_a_fault_has_a_place_the_value_and_a_mend(
    text: str, key: str, place: tuple[int, int], seen: str, mend: str
) -> None:
    faults = _faults(text)
    assert list(faults) == [key]
    line, column, what, how = faults[key]
    assert (line, column) == place
    assert seen in what
    assert mend in how
    assert "geheim" not in what + how


def test_all_faults_are_told_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(
            f"name: UPPER\n{HEAD}  cpu: {{kind: cpu, cpus: many, mox: 2}}\nidle_timeout_s: 0\n", "p.yaml"
        )
    places = [(f.where.line, f.where.key) for f in caught.value.faults]
    assert places == [
        (1, "name"),
        (4, "groups.cpu.cpus"),
        (4, "groups.cpu.mox"),
        (5, "idle_timeout_s"),
    ]
    assert "p.yaml has 4 faults" in str(caught.value)
    assert "  p.yaml:1:7: name: 'UPPER' is refused" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_rules_between_the_parts_are_told_together_with_single_faults() -> None:
    faults = _faults("nmae: x\nprices: {own: {gpu: {on_demand: 1}}}\n")
    assert set(faults) == {"nmae", "prices.own.gpu"}


def test_what_follows_from_another_fault_is_not_told() -> None:
    text = f"{HEAD}  g: {{kind: gpu, gpus: some, accelerator: L4}}\nteams: {{a: {{quota: {{GPU: 1}}}}}}\n"
    assert set(_faults(text)) == {"groups.g.gpus"}


def test_a_key_that_stands_twice_is_a_fault() -> None:
    (fault,) = _faults("name: a\nname: b\n").values()
    assert fault[:3] == (2, 1, "stands here and in line 1")


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- x"])
def test_what_is_no_yaml_names_its_line(text: str) -> None:
    with pytest.raises(UserError, match=r"p\.yaml:\d+:\d+ is not YAML"):
        parse_spec(text, "p.yaml")


def test_a_file_that_is_a_list_is_refused() -> None:
    (fault,) = _faults("- a\n").values()
    assert fault[0] == 1


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load_spec(path)


CLOUDS = """
aws: {region: eu-central-1, zones: [a], image_id: ami-01234567, security_groups: [sg-01234567]}
gcp: {project: example-project, region: europe-west4, zone: b, image: projects/p/global/images/i}
kubernetes: {}
"""


@pytest.mark.parametrize(
    ("group", "key", "seen"),
    [
        (
            "{kind: cpu, zones: [b], gcp: {skip: true}, kubernetes: {skip: true}}",
            "zones",
            "no subnet for 'b'",
        ),
        ("{kind: cpu, zones: [a], kubernetes: {skip: true}}", "zones", "in zone 'b'"),
        ("{kind: cpu, zones: [a], gcp: {skip: true}}", "zones", "kubernetes.zones does not name 'a'"),
        ("{kind: cpu, spot: {share: 1}}", "spot", "spot_selector"),
        ("{kind: gpu, gpus: 1, accelerator: L4}", "accelerator", "kubernetes.accelerators"),
        (
            "{kind: gpu, gpus: 3, accelerator: L4, gcp: {skip: true}, kubernetes: {skip: true}}",
            "",
            "has 3 L4",
        ),
        ("{kind: cpu, cpus: 500, gcp: {skip: true}}", "", "500 CPUs"),
        (
            "{kind: cpu, cpus: 8, gcp: {machine_type: n2-standard-4}}",
            "gcp.machine_type",
            "not what the group",
        ),
    ],
)
def test_what_a_target_cannot_do_is_a_fault_of_the_group(group: str, key: str, seen: str) -> None:
    faults = _faults(f"{HEAD}  w: {group}\n{CLOUDS}")
    (told,) = faults
    assert told == "groups.w" + (f".{key}" if key else "")
    assert seen in faults[told][2]
