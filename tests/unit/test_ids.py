"""Session ids are random, and access logs don't contain them."""

import random
import re
from pathlib import Path

import pytest
from flask_shared_session.ids import make_id

ROOT = Path(__file__).resolve().parents[2]


def make_ids(count: int) -> list[str]:
    random.seed(1)  # a generator that can be seeded would return the same ids again
    return [make_id() for _ in range(count)]


def test_an_id_has_256_random_bits_from_the_operating_system() -> None:
    ids = make_ids(3000)
    symbols = [len({each[place] for each in ids}) for place in range(2, 45)]
    assert symbols == [64] * 42 + [16], "42 characters with 6 bits, the last with 4"
    assert not {each[2:] for each in ids} & {each[2:] for each in make_ids(3000)}


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("roles/nginx/templates/log.conf.j2", r"log_format .*?;\n"),
        ("roles/app/templates/gunicorn.conf.py.j2", r"access_log_format = .*\n"),
    ],
)
def test_access_logs_contain_no_cookie(path: str, setting: str) -> None:
    (format,) = re.findall(setting, (ROOT / path).read_text(), re.DOTALL if ";" in setting else 0)
    assert "request_id" in format
    assert "cookie" not in format.lower()


def test_an_id_has_256_random_bits_beyond_its_slot() -> None:
    ids = [make_id(beside="AB") for _ in range(200)]
    assert {each[:2] for each in ids} == {"AB"}
    assert len({each[2:] for each in ids}) == 200
    assert len({each[:2] for each in (make_id() for _ in range(200))}) > 150
