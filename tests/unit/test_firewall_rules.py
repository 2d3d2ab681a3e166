"""Sources of the firewall's rules, and the SSH connection that they must admit."""

from pathlib import Path

import pytest
from lib.ansible_runs import load_module

firewall = load_module("plugins/modules/firewall.py")
addresses = load_module("plugins/filter/addresses.py")


def test_overlapping_networks_become_one() -> None:
    sources = ["192.0.2.7", "192.0.2.0/24", "2001:db8::1", "198.51.100.4"]
    assert addresses.addresses(sources, 4) == ["192.0.2.0/24", "198.51.100.4"]
    assert addresses.addresses(sources, 6) == ["2001:db8::1"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", True),
        ("198.51.100.1", False),
        ("::ffff:192.0.2.7", True),
        ("fe80::1%eth0", True),
        ("fd00::1", False),
    ],
)
def test_a_listed_controller_is_admitted(address: str, expected: bool) -> None:
    assert firewall.admits(["192.0.2.0/24", "fe80::/10"], address) is expected


def test_an_invalid_source_is_refused() -> None:
    with pytest.raises(Exception, match="'banana' does not appear to be an IPv4 or IPv6 network"):
        addresses.addresses(["banana"], 4)


def process(proc: Path, number: int, parent: int, environment: str) -> None:
    (proc / str(number)).mkdir()
    (proc / str(number) / "stat").write_text(f"{number} (a) b) S {parent} 7 7 0 -1\n")
    (proc / str(number) / "environ").write_text(environment)


def test_the_ssh_connection_is_found_above_sudo(tmp_path: Path) -> None:
    """sudo drops SSH_CONNECTION from the environment of the module."""
    process(tmp_path, 1, 0, "SSH_CONNECTION=192.0.2.9 1 192.0.2.10 22\0")
    process(tmp_path, 2, 1, "HOME=/root\0SSH_CONNECTION=192.0.2.1 40122 192.0.2.10 22\0")
    process(tmp_path, 3, 2, "HOME=/root\0")
    assert firewall.ssh_connection("3", tmp_path) == "192.0.2.1 40122 192.0.2.10 22"


def test_a_connection_without_ssh_is_empty(tmp_path: Path) -> None:
    process(tmp_path, 1, 0, "HOME=/root\0")
    assert firewall.ssh_connection("1", tmp_path) == ""


class Module:
    """Ansible's module; a failure raises an exception."""

    def fail_json(self, msg: str) -> None:
        raise RuntimeError(msg)


@pytest.mark.parametrize("connection", ["192.0.2.7 1 192.0.2.10 22", ""])
def test_a_controller_that_is_not_listed_is_refused(monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    """A connection that isn't SSH can't be locked out."""
    monkeypatch.setattr(firewall, "ssh_connection", lambda: connection)
    host = firewall.Firewall(Module())
    assert host.check(["192.0.2.0/24"])["connection"] == connection
    if connection:
        with pytest.raises(RuntimeError, match="would lock this controller out: it connects from 192.0.2.7"):
            host.check(["198.51.100.0/24"])


def test_the_previous_connection_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "ssh_connection", lambda: "192.0.2.7 1 192.0.2.10 22")
    with pytest.raises(RuntimeError, match="previous connection"):
        firewall.Firewall(Module()).confirm("", "192.0.2.7 1 192.0.2.10 22")
