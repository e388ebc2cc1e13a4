"""What must hold between the parts of the cluster file: one head, teams that exist, machines that fit.

Knows these rules and how to mend what breaks one; it does not know where in the file a key stands.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayplat.cluster.spec.catalogue import KEY, Cloud, NoMachineError, choose, named
from rayplat.cluster.spec.groups import NodeGroup

if TYPE_CHECKING:
    from rayplat.cluster.spec.cluster import ClusterSpec

Place = tuple[str | int, ...]
_OURS = ("ray.io/", "rayplat.")


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken rule: the keys that lead to it, what is wrong and what mends it."""

    at: Place
    what: str
    mend: str


def breaches(spec: "ClusterSpec") -> list[Breach]:
    """Every broken rule, in the order of the file's parts."""
    found = [*_heads(spec), *_named_groups(spec)]
    for name, group in spec.groups.items():
        found += [*_labels(name, group), *_machines(spec, name, group), *_zones(spec, name, group)]
        found += _pods(spec, name, group)
    return [*found, *_teams(spec), *_money(spec), *_settings(spec), *_head_store(spec)]


def _head_store(spec: "ClusterSpec") -> Iterator[Breach]:
    if spec.platform.head_store == "redis" and not spec.platform.redis:
        yield Breach(
            ("platform", "head_store"),
            "the head's tables would be in Redis, and platform.redis names none",
            "name platform.redis: redis://host:6379/0, or write head_store: rocksdb",
        )


def _heads(spec: "ClusterSpec") -> Iterator[Breach]:
    heads = [name for name, group in spec.groups.items() if group.kind == "head"]
    if not heads:
        yield Breach(("groups",), "no group is of kind head", "add `head: {kind: head, cpus: 4}`")
    for extra in heads[1:]:
        yield Breach(
            ("groups", extra, "kind"),
            f"groups {heads[0]!r} and {extra!r} are both of kind head",
            "a cluster has one head: make one of them cpu or gpu",
        )
    for cloud in ("aws", "gcp", "kubernetes"):
        for name in heads[:1]:
            if getattr(spec.groups[name], cloud).skip:
                yield Breach(("groups", name, cloud, "skip"), "the head cannot be left out", "remove skip")


def _named_groups(spec: "ClusterSpec") -> Iterator[Breach]:
    for name in spec.groups:
        if name.endswith("-spot") and name.removesuffix("-spot") in spec.groups:
            yield Breach(
                ("groups", name),
                f"{name!r} is the name of the spot nodes of {name.removesuffix('-spot')!r}",
                "name one of the two groups otherwise",
            )


def _labels(name: str, group: NodeGroup) -> Iterator[Breach]:
    for label in group.labels:
        if label.startswith(_OURS):
            yield Breach(
                ("groups", name, "labels", label),
                f"label {label!r} begins with {label.partition('/')[0]!r}, which Ray and rayplat set",
                "name it otherwise",
            )


def _machines(spec: "ClusterSpec", name: str, group: NodeGroup) -> Iterator[Breach]:
    clouds: tuple[Cloud, ...] = ("aws", "gcp")
    for cloud in clouds:
        key = named(group, cloud)
        if getattr(group, cloud).skip or (getattr(spec, cloud) is None and key is None):
            continue
        try:
            choose(group, cloud)
        except NoMachineError as none:
            keys = ("groups", name, *((cloud, KEY[cloud]) if key else ()))
            yield Breach(keys, none.what, none.mend)


def _zones(spec: "ClusterSpec", name: str, group: NodeGroup) -> Iterator[Breach]:
    at = ("groups", name, "zones")
    letters = set(group.zones)
    if not letters:
        return
    if spec.aws and not group.aws.skip and letters != set(spec.aws.zones):
        missing = sorted(letters - set(spec.aws.subnets))
        if missing:
            yield Breach(
                at,
                f"AWS has no subnet for {_listed(missing)}",
                f"add aws.subnets: {{{missing[0]}: subnet-…}}: it is the subnet that puts a node into a zone",
            )
    if spec.gcp and not group.gcp.skip and spec.gcp.zone not in letters:
        yield Breach(
            at,
            f"GCP places the whole cluster in zone {spec.gcp.zone!r}, and the group wants {_listed(letters)}",
            f"add {spec.gcp.zone!r}, or write `gcp: {{skip: true}}` into the group",
        )
    if spec.kubernetes and not group.kubernetes.skip:
        missing = sorted(letters - set(spec.kubernetes.zones))
        if missing:
            yield Breach(
                at,
                f"kubernetes.zones does not name {_listed(missing)}",
                f"add kubernetes.zones: {{{missing[0]}: name-of-the-zone}}",
            )


def _pods(spec: "ClusterSpec", name: str, group: NodeGroup) -> Iterator[Breach]:
    kubernetes = spec.kubernetes
    if kubernetes is None or group.kubernetes.skip:
        return
    if group.spot_max and not kubernetes.spot_selector:
        yield Breach(
            ("groups", name, "spot"),
            "kubernetes.spot_selector does not say what spot nodes are",
            "name a label of theirs, such as kubernetes.spot_selector: {karpenter.sh/capacity-type: spot}",
        )
    named = group.kubernetes.node_selector or group.accelerator in kubernetes.accelerators
    if group.gpus and not named:
        yield Breach(
            ("groups", name, "accelerator"),
            f"kubernetes.accelerators does not say which nodes have {group.accelerator}",
            f"add kubernetes.accelerators: {{{group.accelerator}: {{label: value}}}}",
        )


def _teams(spec: "ClusterSpec") -> Iterator[Breach]:
    seen: dict[str, str] = {}
    resources = sorted({key for group in spec.groups.values() for key in group.resources})
    for team, wanted in spec.teams.items():
        for place, member in enumerate(wanted.members):
            if member in seen:
                yield Breach(
                    ("teams", team, "members", place),
                    f"{member!r} is in team {seen[member]!r} already",
                    "leave each user in one team: a quota must know whose a job is",
                )
            seen.setdefault(member, team)
        for resource, amount in wanted.quota.items():
            if amount < 0:
                yield Breach(("teams", team, "quota", resource), f"{amount:g} is below 0", "give 0 or more")
            elif resource not in resources:
                yield Breach(
                    ("teams", team, "quota", resource),
                    f"no group has the resource {resource!r}",
                    _meant(resource, resources),
                )


def _money(spec: "ClusterSpec") -> Iterator[Breach]:
    for group in spec.prices.own:
        if group not in spec.groups:
            yield Breach(("prices", "own", group), f"there is no group {group!r}", _meant(group, spec.groups))
    for place, budget in enumerate(spec.budgets):
        if budget.scope == "team" and budget.name != "*" and budget.name not in spec.teams:
            yield Breach(
                ("budgets", place, "name"),
                f"there is no team {budget.name!r}",
                _meant(budget.name, spec.teams),
            )


def _settings(spec: "ClusterSpec") -> Iterator[Breach]:
    from rayplat.core.secrets import MASK, masked
    from rayplat.core.settings_sources import settings_keys

    keys = settings_keys()
    for key, value in spec.platform.settings.items():
        at = ("platform", "settings", key)
        free = any(known.endswith(".*") and key.startswith(known[:-1]) for known in keys)
        if key not in keys and not free:
            yield Breach(at, f"there is no setting {key!r}", _meant(key, keys))
        elif isinstance(value, str) and MASK in str(masked(key, value)):
            yield Breach(
                at,
                f"{key} is a secret, and this file is committed",
                "put it into the file that platform.secrets_file names",
            )


def _meant(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(known[:12]) or 'none'}"


def _listed(letters: Iterable[str]) -> str:
    return ", ".join(repr(letter) for letter in sorted(letters))
