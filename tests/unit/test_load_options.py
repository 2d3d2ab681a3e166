"""The options of the load generator, and its figure."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from lib.load.__main__ import is_private, main
from lib.load.figure import Figure


@pytest.mark.parametrize("url", ["http://192.0.2.1", "http://[2001:db8::1]"])
def test_a_public_address_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    assert main([url, f"--password-file={password}"]) == 2
    assert "--allow-host" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rate=2001", "--rate=0", "--users=501", "--seconds=7201"])
def test_hard_limits(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["http://127.0.0.1", "--password-file=password", option])
    assert exit.value.code == 2
    assert "must be from" in capsys.readouterr().err


def test_private_addresses() -> None:
    private = "127.0.0.2 ::1 10.1.2.3 172.31.0.1 192.168.0.1 fd00::1 169.254.1.1 fe80::1"
    public = "8.8.8.8 172.32.0.1 192.0.2.1 100.64.0.1 0.0.0.0 2001:db8::1 ::"
    assert all(map(is_private, private.split()))
    assert not any(map(is_private, public.split()))


ROWS = [
    {"time": 1000.5 + n, "requests": 3, "errors": 0, "worst_wait": 0.01, "nodes": {"a&b": 1, "c": 2}} for n in range(9)
]


MARKS = [("a&b drained", 2), ("odd", 2.1), ("a&b undrained", 4), ("c drained", 5)]


def draw(rows: list[dict[str, Any]]) -> tuple[dict[str, list[Any]], list[Any]]:
    marks = [{"time": 1000.5 + second, "event": event} for event, second in MARKS]
    svg = ET.fromstring(str(Figure(rows, marks, "A <title>", "a subtitle")))
    elements = list(svg.iter())
    named = {
        name: [each for each in elements if each.get("class") == name] for name in ("node", "errors", "wait", "mark")
    }
    return named, [each for each in elements if each.tag.endswith("}text")]


def test_figure() -> None:
    named, texts = draw(ROWS)
    words = [each.text for each in texts]
    assert len(named["node"]) == 2
    # a step for each second, for an area in both directions
    assert [path.get("d").count("H") for path in named["node"]] == [18, 18]
    assert [path.get("d").count("H") for path in named["errors"] + named["wait"]] == [9, 9]
    assert {"A <title>", "0 failed", "a&b", "c"} <= {*words}
    assert any(each.startswith("27 requests, 0 failed, longest wait 0.01 s · 1970-01-01 00:16 UTC") for each in words)
    band, line, lone = named["mark"]
    assert (band.tag[-4:], line.tag[-4:], lone.tag[-4:]) == ("rect", "line", "line")
    assert float(band.get("width")) == pytest.approx(2 / 9 * 880, abs=0.1)
    labels = {each.text: float(each.get("y")) for each in texts if each.text in ("a&b drained", "odd", "c drained")}
    assert len(labels) == 3
    assert labels["a&b drained"] != labels["odd"], "labels must not overlap"


def test_figure_of_failures() -> None:
    named, texts = draw([*ROWS, ROWS[0] | {"errors": 2, "worst_wait": 12}])
    words = [each.text for each in texts]
    assert "0 failed" not in words
    assert "Failed requests per second: 2 in all" in words
    assert len(set(re.findall(r"V[\d.]+", named["errors"][0].get("d")))) == 2
