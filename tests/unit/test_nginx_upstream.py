"""The module nginx_upstream: which app nodes are active, and what the files for nginx contain."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lib.ansible_runs import load_module
from lib.balancer_host import Host, nginx

upstream = load_module("plugins/modules/nginx_upstream.py")

TWO = {"app1": "192.0.2.31:8000", "app2": "[2001:db8::32]:8000"}
THREE = TWO | {"app3": "192.0.2.33:8000"}
REASON = {"by": "ada@desk", "reason": 'new disk; {"quoted"}', "kind": "drain"}
EMPTY = {"nodes": {}, "server_options": ""}
State = dict[str, Any]


@pytest.fixture
def both() -> State:
    state: State = upstream.change(EMPTY, TWO, "max_fails=2")[0]
    return state


def drained(state: State, *names: str) -> State:
    """Return the state after draining nodes with REASON."""
    after: State = upstream.change(state, drain=names, reason=REASON)[0]
    return after


# --- the state ---


def test_a_drained_node_stays_drained_whatever_else_changes(both: State) -> None:
    after, _last = upstream.change(drained(both, "app2"), THREE, "max_fails=9")
    assert after["nodes"]["app2"]["drained"] == REASON
    assert after["nodes"]["app3"] == {"address": "192.0.2.33:8000", "drained": None}
    assert after["server_options"] == "max_fails=9"
    assert upstream.change(after, undrain=["app2"])[0]["nodes"]["app2"]["drained"] is None


def test_undrain_kinds_limits_which_nodes_are_undrained(both: State) -> None:
    out = drained(both, "app2")
    assert upstream.change(out, undrain=["app2"], undrain_kinds=["deployment"])[0] == out
    assert upstream.change(out, undrain=["app2"], undrain_kinds=["deployment", "drain"])[0] == both


def test_an_undrained_node_gets_its_current_address(both: State) -> None:
    addresses = {"app1": "192.0.2.1:1", "app2": "192.0.2.2:2"}
    after, _last = upstream.change(drained(both, "app2"), undrain=["app2"], addresses=addresses)
    assert after["nodes"]["app2"] == {"address": "192.0.2.2:2", "drained": None}
    assert after["nodes"]["app1"] == both["nodes"]["app1"]


def test_connections_of_a_node_that_is_drained_already_are_waited_for_again(both: State) -> None:
    out = drained(both, "app2")
    for before in (both, out):
        assert upstream.addresses_to_close(before, out, ["app2"]) == [TWO["app2"]]
    assert upstream.addresses_to_close(out, out, []) == []
    only_first = both | {"nodes": {"app1": both["nodes"]["app1"]}}
    assert upstream.addresses_to_close(both, only_first, []) == [TWO["app2"]]


def test_the_first_reason_for_a_drained_node_stays(both: State) -> None:
    out = drained(both, "app2")
    assert upstream.change(out, drain=["app2"], reason={"by": "eve"})[0] == out


def test_the_last_active_node_is_never_drained(both: State) -> None:
    after, last = upstream.change(both, drain=["app1", "app2"], reason=REASON)
    assert last == ["app2"]
    assert after["nodes"]["app2"]["drained"] is None
    with pytest.raises(nginx.NginxError, match="undrain.yml"):
        upstream.change(after, {"app1": TWO["app1"]}, "max_fails=2")


def test_unknown_nodes_are_ignored(both: State) -> None:
    assert upstream.change(both, drain=["app9"], undrain=["app8"], reason=REASON) == (both, [])


def test_nodes_that_are_not_kept_leave_unless_no_active_node_is_left(both: State) -> None:
    assert list(upstream.change(both, keep=["app1", "app3"])[0]["nodes"]) == ["app1"]
    assert upstream.change(both, keep=["app3"])[0] == both
    out = drained(both, "app1")
    assert upstream.change(out, keep=["app1"])[0] == out


# --- the files ---


def test_a_single_active_node_is_never_marked_as_failed(both: State) -> None:
    assert "server 192.0.2.31:8000 max_fails=2 max_fails=0;  # app1\n" in upstream.render(drained(both, "app2"))
    assert "max_fails=0;" not in upstream.render(both)


def test_a_single_active_node_has_no_retries_and_no_backup(both: State) -> None:
    assert "GET @retry_another_node;\nHEAD @retry_another_node;\n" in upstream.render_retry_methods(both)
    assert upstream.render(both).count(" backup;") == 2
    single = drained(both, "app2")
    assert "@retry_another_node" not in upstream.render_retry_methods(single)
    assert " backup;" not in upstream.render(single)


def test_a_drained_node_gets_no_request() -> None:
    out = drained(upstream.change(EMPTY, THREE, "max_fails=2")[0], "app2")
    assert [line for line in upstream.render(out).splitlines() if TWO["app2"] in line and " down;" not in line] == []


def test_the_order_of_nodes_changes_no_file(both: State) -> None:
    reverse = upstream.change(EMPTY, dict(reversed(TWO.items())), "max_fails=2")[0]
    assert upstream.render(reverse) == upstream.render(both)


# --- the state of the version that had no upstream.json ---


OLD = """\
# Managed by Ansible
server 192.0.2.31:8000 max_fails=2 fail_timeout=5s max_fails=0;  # app1
server [2001:db8::32]:8000 max_fails=2 fail_timeout=5s down;  # app2 out: {"by": "ada@desk", "kind": "drain", "why": 1}
server 192.0.2.33:8000 max_fails=2 fail_timeout=5s down;  # app3 out: {"by": "-", "kind": "run", "run": "7", "why": "y"}
server 192.0.2.31:8000 max_fails=0 backup;
"""


def test_an_old_upstream_conf_is_migrated() -> None:
    assert nginx.migrate_upstream(OLD) == {
        "server_options": "max_fails=2 fail_timeout=5s",
        "nodes": {
            "app1": {"address": TWO["app1"], "drained": None},
            "app2": {"address": TWO["app2"], "drained": {"by": "ada@desk", "kind": "drain", "reason": 1}},
            "app3": {
                "address": THREE["app3"],
                "drained": {"by": "-", "kind": "deployment", "deployment": "7", "reason": "y"},
            },
        },
    }


def test_drained_nodes_stay_drained_without_a_state_file(both: State) -> None:
    out = drained(both, "app2")
    out["nodes"]["app2"]["drained"] = {}
    assert nginx.migrate_upstream(upstream.render(out)) == out


def test_a_foreign_line_of_an_old_upstream_conf_is_refused() -> None:
    with pytest.raises(nginx.NginxError, match="did not write: server 192.0.2.31:8000 down; Remove"):
        nginx.migrate_upstream("# by hand\nserver 192.0.2.31:8000 down;")


# --- the module's work on a host ---


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path)
    host.patch(monkeypatch, upstream)
    return host


@pytest.fixture
def apply(host: Host) -> Callable[..., dict[str, Any]]:
    """Run the module; both nodes are configured already."""
    upstream.apply(False, 1, servers=TWO, server_options="max_fails=2")
    host.commands.clear()
    return lambda check_mode=False, **options: upstream.apply(check_mode, 1, **options)


def test_a_change_is_tested_loaded_and_made_once(host: Host, apply: Callable[..., dict[str, Any]]) -> None:
    result = apply(drain=["app2"], reason=REASON)
    assert (result["changed"], result["drained"], result["nodes"]) == (True, {"app2": REASON}, ["app1", "app2"])
    assert [each for each in host.commands if each.split()[0] in ("nginx", "systemctl")] == [
        "systemctl is-active",
        "nginx -t",
        "systemctl reload",
    ]
    assert json.loads((host.state / "upstream.json").read_text())["nodes"]["app2"]["drained"] == REASON
    assert not apply(drain=["app2"], reason=REASON)["changed"]


@pytest.mark.parametrize("failing", ["nginx -t", "systemctl reload"])
def test_an_interrupted_change_is_repaired_by_the_next_run(
    host: Host, apply: Callable[..., dict[str, Any]], failing: str
) -> None:
    host.failing = failing
    with pytest.raises(nginx.NginxError, match="unknown directive"):
        apply(drain=["app2"], reason=REASON)
    host.failing = ""
    host.commands.clear()
    result = apply(undrain=["app9"])
    # The files are as before if nginx rejects them. Otherwise the state has changed, and nginx must load it.
    assert result["drained"] == ({} if failing == "nginx -t" else {"app2": REASON})
    assert ("systemctl reload" in host.commands) == (failing != "nginx -t")


def test_without_options_and_in_check_mode_nothing_is_written(host: Host, apply: Callable[..., dict[str, Any]]) -> None:
    (host.config / "upstream.conf.loaded").unlink()
    before = host.files()
    assert not apply()["changed"]
    assert apply(True, drain=["app1"], reason=REASON)["changed"]
    assert host.files() == before
    assert "systemctl reload" not in host.commands


def test_an_old_drained_node_stays_drained_across_the_upgrade(host: Host) -> None:
    (host.config / "upstream.conf").write_text(OLD)
    (host.config / "upstream-reads.conf").write_text("of the old nginx.conf")
    result = upstream.apply(False, 1, servers=THREE, server_options="max_fails=2")
    assert {name: reason["kind"] for name, reason in result["drained"].items()} == {
        "app2": "drain",
        "app3": "deployment",
    }
    # The old nginx.conf, which includes it, is still loaded.
    assert (host.config / "upstream-reads.conf").read_text() == "of the old nginx.conf"
    (host.config / "upstream.conf").unlink()
    assert upstream.apply(False, 1, keep=THREE)["drained"] == result["drained"]


def test_an_invalid_state_file_is_refused(host: Host, apply: Callable[..., dict[str, Any]]) -> None:
    (host.state / "upstream.json").write_text("{")
    with pytest.raises(nginx.NginxError, match="upstream.json is not valid JSON"):
        apply()


def test_files_that_nginx_rejects_are_restored(host: Host) -> None:
    host.failing = "nginx -t"
    old, new = host.config / "upstream.conf", host.config / "retry-methods.conf"
    old.write_text("before")
    with pytest.raises(nginx.NginxError, match="unknown directive"):
        nginx.install([nginx.File(old, "banana"), nginx.File(new, "banana")])
    assert old.read_text() == "before"
    assert not new.exists()
