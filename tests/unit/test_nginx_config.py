"""The modules nginx_config and nginx_status: maintenance mode, files that are installed together, the report."""

import json
import stat
from pathlib import Path

import pytest
from lib.ansible_runs import load_module
from lib.balancer_host import Host, nginx

config = load_module("plugins/modules/nginx_config.py")
status = load_module("plugins/modules/nginx_status.py")
upstream = load_module("plugins/modules/nginx_upstream.py")

REASON = {"by": "ada@desk", "since": "2026-11-22T10:00:00Z", "reason": 'a "new" disk\nand more; {'}
ON = "default 1;"
# The files of the version that had no maintenance.json.
OLD_MAINTENANCE = """\
# on: {"by": "ada@desk", "since": "2026-11-22T10:00:00Z", "why": "a \\"new\\" disk\\nand more; {"}
map $old_bypass $old_maintenance {
    default 1;
    1 0;
}
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    host.patch(monkeypatch, config, status, upstream)
    return host


def installed(host: Host) -> None:
    """Install all files, with maintenance mode off."""
    config.apply(False, content="events {}\n", bypass_token="secret", sandbox="[Service]\nUMask=0027\n")


def test_maintenance_mode_is_switched_and_keeps_its_first_reason(host: Host) -> None:
    installed(host)
    assert config.apply(False, maintenance="on", reason=REASON)["maintenance"] == REASON
    assert ON in (host.config / "maintenance.conf").read_text()
    again = config.apply(False, maintenance="on", reason={"by": "eve"})
    assert (again["changed"], again["maintenance"]) == (False, REASON)
    off = config.apply(False, maintenance="off", reason={"by": "eve"})
    assert (off["changed"], off["maintenance"]) == (True, None)
    assert ON not in (host.config / "maintenance.conf").read_text()


def test_a_new_configuration_leaves_maintenance_mode_as_it_is(host: Host) -> None:
    installed(host)
    config.apply(False, maintenance="on", reason=REASON)
    result = config.apply(False, content="events { }\n", bypass_token="other")
    assert (result["changed"], result["maintenance"]) == (True, REASON)
    assert ON in (host.config / "maintenance.conf").read_text()


def test_maintenance_mode_of_the_old_version_stays_on(host: Host) -> None:
    (host.config / "maintenance.conf").write_text(OLD_MAINTENANCE)
    assert status.query()["maintenance"] == REASON
    result = config.apply(False, content="events {}\n", bypass_token="secret")
    assert (result["changed"], result["maintenance"]) == (True, REASON)
    assert json.loads((host.state / "maintenance.json").read_text()) == REASON
    assert "$bypass_valid $in_maintenance" in (host.config / "maintenance.conf").read_text()
    assert status.query()["maintenance"] == REASON


def test_files_are_installed_together_or_not_at_all(host: Host) -> None:
    (host.config / "maintenance.conf").write_text(OLD_MAINTENANCE)
    (host.config / "upstream-reads.conf").write_text("")
    before = host.files()
    host.failing = "nginx -t"
    with pytest.raises(nginx.NginxError, match="unknown directive"):
        installed(host)
    assert host.files() == before
    host.failing = ""
    installed(host)
    assert host.config / "upstream-reads.conf" not in host.files()
    assert host.commands == ["nginx -t", "nginx -t"]


def test_a_run_without_changes_tests_and_writes_nothing(host: Host) -> None:
    installed(host)
    host.commands.clear()
    before = {path: path.stat().st_ino for path in host.files()}
    assert not config.apply(False, content="events {}\n", bypass_token="secret")["changed"]
    assert {path: path.stat().st_ino for path in host.files()} == before
    assert host.commands == []


def test_check_mode_writes_nothing_on_a_new_host(host: Host) -> None:
    host.config.rmdir()
    assert config.apply(True, content="events {}\n", bypass_token="secret", sandbox="[Service]\n")["changed"]
    assert upstream.apply(True, 1, servers={"app1": "192.0.2.31:8000"})["changed"]
    assert host.files() == {}
    assert set(host.commands) == {"systemctl is-active"}


def test_the_bypass_token_is_in_no_result_and_no_public_file(host: Host) -> None:
    result = config.apply(False, content="events {}\n", bypass_token="secret")
    assert '"secret" 1;' in (host.config / "maintenance-bypass.conf").read_text()
    assert '"secret"' not in str(result)
    assert stat.S_IMODE((host.config / "maintenance-bypass.conf").stat().st_mode) == 0o600


def test_a_changed_mode_is_repaired(host: Host) -> None:
    installed(host)
    path = host.config / "maintenance-bypass.conf"
    path.chmod(0o644)
    assert config.apply(False, bypass_token="secret")["changed"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_comments_alone_never_replace_the_sandbox(host: Host) -> None:
    """A new file makes the role restart nginx, which would interrupt requests."""
    host.sandbox.write_text("# before\n[Service]\nUMask=0027\n")
    assert not config.apply(False, sandbox="# after\n\n[Service]\nUMask=0027\n")["diff"][2:]
    assert "# before" in host.sandbox.read_text()
    config.apply(False, sandbox="# after\n[Service]\nUMask=0077\n")
    assert host.sandbox.read_text() == "# after\n[Service]\nUMask=0077\n"


def test_the_status_has_state_nodes_and_maintenance_mode(host: Host) -> None:
    upstream.apply(False, 1, servers={"app2": "192.0.2.32:8000", "app1": "192.0.2.31:8000"})
    upstream.apply(False, 1, drain=["app2"], reason=REASON)
    expected = {
        "state": "running",
        "reason": "",
        "nodes": ["app1", "app2"],
        "drained": {"app2": REASON},
        "maintenance": None,
    }
    assert status.query() == expected
    host.unit_state = "failed"
    assert status.query() == expected | {"state": "stopped", "reason": "nginx.service is failed"}
