"""Specs for the tests: one with every target, and a strategy of many."""

from typing import Any

from hypothesis import strategies as st

from rayplat.cluster.spec import ClusterSpec

SECTIONS: dict[str, Any] = {
    "aws": {
        "region": "eu-central-1",
        "image_id": "ami-01234567",
        "security_groups": ["sg-01234567"],
    },
    "gcp": {
        "project": "example-project",
        "region": "europe-west4",
        "image": "projects/p/global/images/i",
    },
    "kubernetes": {
        "spot_selector": {"spot": "yes", "market": "spot"},
        "accelerators": {name: {"gpu": name} for name in ("L4", "T4", "A100", "H100")},
    },
}
_ACCELERATORS = [("L4", 1, 8), ("L4", 4, 48), ("T4", 1, 16), ("A100", 8, 96), ("H100", 8, 192)]
_name = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?", fullmatch=True)


def spec_of(groups: dict[str, Any], **parts: Any) -> ClusterSpec:
    """A spec with every target and a head beside the groups."""
    return ClusterSpec.model_validate({**SECTIONS, "groups": {"head": {"kind": "head"}, **groups}, **parts})


@st.composite
def groups(draw: st.DrawFn) -> dict[str, Any]:
    """A worker group that all clouds have a machine for."""
    most = draw(st.integers(0, 20))
    group: dict[str, Any] = {
        "kind": "cpu",
        "cpus": draw(st.integers(1, 32)),
        "memory_gib": draw(st.integers(1, 16)),
        "disk_gib": draw(st.integers(20, 2_000)),
        "min": draw(st.integers(0, most)),
        "max": most,
        "labels": draw(
            st.dictionaries(_name.filter(lambda n: not n.startswith("rayplat.")), _name, max_size=3)
        ),
        "idle_timeout_s": draw(st.none() | st.integers(1, 7_200)),
        "spot": {
            "share": draw(st.sampled_from([0, 1]) | st.floats(0, 1)),
            "fallback": draw(st.sampled_from(["on-demand", "none"])),
        },
    }
    if draw(st.booleans()):
        accelerator, gpus, cpus = draw(st.sampled_from(_ACCELERATORS))
        group |= {"kind": "gpu", "accelerator": accelerator, "gpus": gpus}
        group["cpus"] = draw(st.integers(1, cpus))
    return group


def specs() -> st.SearchStrategy[ClusterSpec]:
    """Specs of one to three groups; the names show whether a prefix or a suffix is taken for another."""
    names = st.sampled_from(["a", "a-b", "gpu-l4", "c-spot-x"])
    return st.builds(
        lambda found, idle: spec_of(found, idle_timeout_s=idle),
        st.dictionaries(names, groups(), min_size=1, max_size=3),
        st.integers(1, 3_600),
    )
