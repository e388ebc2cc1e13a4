import pytest

from rayplat.core.secrets import mask, masked


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("postgresql://u:p@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("redis://:p@h/0", "redis://:***@h/0"),
        ("see postgresql+psycopg://u:p@ss@h/db and more", "see postgresql+psycopg://u:***@h/db and more"),
        ("https://h/x?user=a&password=p&x=1", "https://h/x?user=a&password=***&x=1"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("plain", "plain"),
    ],
)
def test_passwords_in_addresses(text: str, wanted: str) -> None:
    assert mask(text) == wanted


def test_named_secrets_at_any_depth() -> None:
    tree = {"sasl.password": "x", "urls": ["redis://:p@h"], "deep": {"api_key": "k", "n": 3, "none": None}}
    assert masked("", tree) == {
        "sasl.password": "***",
        "urls": ["redis://:***@h"],
        "deep": {"api_key": "***", "n": 3, "none": None},
    }
    assert masked("password", "") == ""
