import pytest

from rayplat.cli.tune_price import worker_price
from rayplat.core.errors import NotFoundError
from rayplat.core.settings import Settings
from tests.architecture.source import ROOT


@pytest.fixture
def settings(tmp_path):
    spec = tmp_path / "platform.yaml"
    text = (ROOT / "cluster" / "platform.yaml").read_text()
    spec.write_text(text + "\nprices: {own: {cpu: {on_demand: 0.80, spot: 0.24}}}\n")
    return Settings.model_validate({"home": tmp_path, "ray": {"spec": str(spec)}})


def test_a_worker_costs_its_share_of_a_node(settings):
    whole = 0.80 / 3600
    assert worker_price(settings, "cpu", "on-demand", 8, 0)() == pytest.approx(whole)
    assert worker_price(settings, "cpu", "on-demand", 2, 0)() == pytest.approx(whole / 4)
    assert worker_price(settings, "cpu", "spot", 8, 0)() == pytest.approx(0.24 / 3600)


def test_a_group_that_is_not_there_is_told_with_those_that_are(settings):
    with pytest.raises(NotFoundError, match="no group 'cpus'"):
        worker_price(settings, "cpus", "on-demand", 1, 0)
