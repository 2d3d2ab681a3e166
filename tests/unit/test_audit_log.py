"""The audit log of a host: one line for each operation that changed it."""

import json
from pathlib import Path

from lib.ansible_runs import load_module

audit_log = load_module("plugins/modules/audit_log.py")

OPERATION = {
    "id": "r1",
    "by": "ada@desk",
    "controller": "desk",
    "what": 'site.yml --tags "app"',
    "since": "2026-01-02T03:04:05Z",
}


def test_an_operation_has_one_line(tmp_path: Path) -> None:
    log = tmp_path / "new" / "audit.log"
    added = [audit_log.record(log, each, "1.0-abc") for each in (OPERATION, OPERATION, OPERATION | {"id": "r2"})]
    assert added == [True, False, True]
    first, second = [json.loads(line) for line in log.read_text().splitlines()]
    assert (first["id"], second["id"]) == ("r1", "r2")
    assert {name: first[name] for name in ("by", "from", "what", "release")} == {
        "by": "ada@desk",
        "from": "desk",
        "what": OPERATION["what"],
        "release": "1.0-abc",
    }


def test_only_a_host_with_an_active_release_names_it(tmp_path: Path) -> None:
    assert audit_log.read_release(tmp_path / "none.json") is None
    (tmp_path / "deployment.json").write_text('{"release": "1.0-abc"}')
    assert audit_log.read_release(tmp_path / "deployment.json") == "1.0-abc"
    audit_log.record(tmp_path / "audit.log", OPERATION, None)
    assert "release" not in json.loads((tmp_path / "audit.log").read_text())


def test_an_interrupted_operation_has_the_time_of_its_start(tmp_path: Path) -> None:
    audit_log.record(tmp_path / "audit.log", OPERATION, None, recorded_by="eve@desk")
    line = json.loads((tmp_path / "audit.log").read_text())
    assert (line["time"], line["ended"], line["recorded_by"]) == (OPERATION["since"], False, "eve@desk")
