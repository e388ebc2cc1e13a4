import csv
from importlib.resources import files
from pathlib import Path

import pytest

from rayplat.cluster.spec import parse_spec
from rayplat.cluster.spec.catalogue import machines
from rayplat.core.errors import UserError
from rayplat.cost.money import dollars, nano, shown
from rayplat.cost.prices import UnknownPriceError, book_of, load_list, read_list
from tests.cost.fakes import spec

HEAD = "machine,gpus,accelerator,on_demand,spot\n"


def test_own_prices_win_and_spot_without_a_price_costs_as_on_demand() -> None:
    book = book_of(spec())
    assert book.at("cpu", "spot", 0) == 250_000_000
    assert book.at("gpu", "spot", 0) == book.at("gpu", "on-demand", 0) == 3 * 10**9


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_list_prices_say_their_date_and_name_only_machines_of_the_catalogue(cloud: str) -> None:
    listed = load_list(cloud)
    assert "list price" in listed.source
    assert "as of 20" in listed.source
    known = {(m.type, m.gpus, m.accelerator or "") for m in machines(cloud)}  # type: ignore[arg-type]
    assert set(listed.prices) <= known
    assert len(listed.prices) >= 0.9 * len(known)
    assert all(price > 0 for price, _ in listed.prices.values())


def test_a_larger_machine_of_a_family_is_dearer() -> None:
    rows = csv.DictReader(
        line
        for line in (files("rayplat.cost") / "data" / "aws.csv").read_text().splitlines()
        if line[0] != "#"
    )
    sizes = {row["machine"]: float(row["on_demand"]) for row in rows if row["gpus"] == "0"}
    for machine in machines("aws"):
        if machine.type in sizes:
            twice = [m for m in machines("aws") if m.type.split(".")[0] == machine.type.split(".")[0]]
            assert all(sizes[m.type] > sizes[machine.type] for m in twice if m.cpus > machine.cpus)


def test_the_machine_of_a_group_has_its_list_price() -> None:
    book = book_of(parse_spec("groups: {head: {kind: head, cpus: 4, memory_gib: 16}}"))
    assert book.at("head", "on-demand", 0) == nano("0.192")
    gcp = parse_spec(
        "groups:\n  head: {kind: head, cpus: 4}\n"
        "  t4: {kind: gpu, cpus: 4, memory_gib: 15, gpus: 2, accelerator: T4}\n"
        "prices: {file: gcp}"
    )
    assert book_of(gcp).at("t4", "on-demand", 0) == nano("0.189999") + 2 * nano("0.35")


def test_a_machine_that_is_in_no_list_is_an_error_and_not_free() -> None:
    book = book_of(
        parse_spec(
            "groups:\n  head: {kind: head}\n"
            "  odd: {kind: gpu, gpus: 8, accelerator: H200, cpus: 192, memory_gib: 2048,"
            " aws: {instance_type: p5e.48xlarge}}"
        )
    )
    with pytest.raises(UnknownPriceError, match="group 'odd' has no on-demand price"):
        book.of("odd", "on-demand")


def test_a_price_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "ours.csv"
    path.write_text(f"# our contract of 2026\n{HEAD}m6i.xlarge,0,,0.1,0.05\n")
    book = book_of(
        parse_spec(f"groups: {{head: {{kind: head, cpus: 4, memory_gib: 16}}}}\nprices: {{file: {path}}}")
    )
    assert (book.at("head", "on-demand", 0), book.at("head", "spot", 0)) == (10**8, 5 * 10**7)
    assert book.source == "our contract of 2026"


@pytest.mark.parametrize(
    "line", ["m6i.xlarge,0,,abc,", "m6i.xlarge,x,,1,", "m6i.xlarge,0,,-1,", "m6i.xlarge,0", "a,0,,nan,"]
)
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(UserError, match=r"f\.csv:3 is no price"):
        read_list(f"# x\n{HEAD}{line}\n", "f.csv")


def test_a_file_without_its_first_row_or_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="is no price file"):
        read_list("a,b\n", "f.csv")
    with pytest.raises(UserError, match="cannot be read"):
        load_list("/nowhere/prices.csv")


def test_money_is_exact_and_shown_in_cents() -> None:
    assert nano(0.1) + nano(0.2) == nano("0.3")
    assert str(dollars(1)) == "1E-9"
    assert [shown(n) for n in (0, 1_234_567_890_123, 5_000_000, -(10**10))] == [
        "$0.00",
        "$1,234.57",
        "$0.005000",
        "-$10.00",
    ]
