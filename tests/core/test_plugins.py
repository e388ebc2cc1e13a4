import pytest

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.plugins import load, missing_package


def test_a_dotted_path_is_loaded() -> None:
    assert load("page", "json:dumps") is __import__("json").dumps


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(NotFoundError, match=r"use one of: .*loop"):
        load("page", "lop")


def test_a_missing_attribute_and_a_missing_package_are_told() -> None:
    with pytest.raises(NotFoundError, match="has no attribute 'nothing'"):
        load("page", "json:nothing")
    with pytest.raises(UserError, match="pip install no_such_package_here"):
        load("page", "no_such_package_here.x:y")


def test_the_extra_is_named() -> None:
    assert missing_package(ModuleNotFoundError(name="redis"), "x").mend == "pip install 'rayplat[redis]'"
