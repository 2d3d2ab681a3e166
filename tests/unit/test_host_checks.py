"""Reasons to refuse a host before it is changed, missing packages, and kernel parameters."""

import re
from pathlib import Path

import pytest
from lib.ansible_runs import ROOT, load_module

checks = load_module("plugins/modules/host_checks.py")

SIGNED = {
    "sources.list": "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] https://deb.example trixie main\n",
    "sources.list.d/old.list": "# deb [trusted=yes] https://deb.example a b\ndeb [trusted=0] https://deb.example a b\n",
    "sources.list.d/new.sources": "Types: deb\nURIs: https://deb.example\nSuites: trixie\nTrusted: no\n",
    "apt.conf.d/10plain": 'APT::Get::AllowUnauthenticated "false";\n',
}
UNSIGNED = {
    "sources.list": "deb [arch=amd64 trusted=yes] https://deb.example trixie main\n",
    "sources.list.d/old.list": "deb-src [ allow-insecure=yes ] https://deb.example trixie main\n",
    "sources.list.d/new.sources": "Types: deb\nTrusted: yes\nURIs: https://deb.example\n",
    "apt.conf.d/10plain": 'APT::Get::AllowUnauthenticated "true";\n',
    "apt.conf.d/20other": 'Acquire { AllowInsecureRepositories "1"; };\n',
}


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory like /etc/apt in which all sources are signed."""
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir::Etc "{tmp_path}/";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    for name, text in SIGNED.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_signed_sources_are_accepted(apt: Path) -> None:
    assert list(checks.unsigned(apt)) == []


@pytest.mark.parametrize("name", UNSIGNED)
def test_a_source_without_signatures_is_refused(apt: Path, name: str) -> None:
    (apt / name).write_text(UNSIGNED[name])
    (found,) = checks.unsigned(apt)
    assert str(apt / name) in found


def process(proc: Path, number: int, name: str, parent: int) -> None:
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "stat").write_text(f"{number} ({name}) S {parent} 7 7 0 -1\n")


def test_the_sshd_processes_of_the_connection_are_found(tmp_path: Path) -> None:
    """The module is a child of sudo and a shell, and they of the two sshd processes of a login and the listener."""
    for number, name in enumerate(["systemd", "sshd", "sshd-session", "sshd-session", "sh", "sudo", "a) (b"], 1):
        process(tmp_path, number, name, number - 1)
    assert checks.sshd_processes("7", tmp_path) == ["4", "3", "2"]
    process(tmp_path, 9, "python3", 1)
    assert checks.sshd_processes("9", tmp_path) == []


@pytest.mark.parametrize(
    ("method", "user", "no_root", "refused"),
    [
        ("publickey", "ops", True, None),
        ("publickey", "root", False, None),
        ("publickey", "root", True, "common_root_login: true"),
        ("password", "ops", True, "ops logged in with a password"),
        ("keyboard-interactive/pam", "ops", True, "ops logged in with a password"),
        ("password", "root", False, "root logged in with a password"),
    ],
)
def test_a_login_that_hardening_would_lock_out_is_refused(
    method: str, user: str, no_root: bool, refused: str | None
) -> None:
    # An earlier login may have had the same process id.
    journal = "Accepted publickey for eve from 192.0.2.1 port 40000 ssh2: ED25519 SHA256:x\npam_unix(sshd:session)\n"
    journal += f"Accepted {method} for {user} from 192.0.2.1 port 40122 ssh2\n"
    message = checks.refusal(*checks.login(journal), no_root, True)
    assert (message is None) if refused is None else (refused in message)


def test_a_login_that_is_not_in_the_journal_is_refused() -> None:
    assert "may be locked out" in checks.refusal(*checks.login(""), True, True)


DEBIANS = "# Port 22\nInclude /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DEBIANS, None),
        ("PasswordAuthentication no\n" + DEBIANS, None),
        ("passwordauthentication=yes\n" + DEBIANS, "`passwordauthentication=yes` in"),
        ("Match User eve\n" + DEBIANS, "sshd_config stands below a Match"),
        ("Match User eve\nInclude /etc/ssh/sshd_config.d/*.conf\n", "*.conf before a Match"),
        ("PermitRootLogin prohibit-password\n", "`PermitRootLogin prohibit-password` in"),
        ("Port 22\n", "has no Include"),
        (DEBIANS + "Match User eve\nPasswordAuthentication yes\n", "`PasswordAuthentication yes` in"),
        (DEBIANS + "Match User eve\nX11Forwarding no\nPasswordAuthentication no\n", None),
    ],
)
def test_an_sshd_that_would_ignore_the_drop_in_is_refused(tmp_path: Path, text: str, expected: str | None) -> None:
    """Otherwise the drop-in would be in place and passwords would still be accepted."""
    (tmp_path / "sshd_config").write_text(text)
    answer = checks.overruled(tmp_path / "sshd_config")
    assert (answer is None) if expected is None else (expected in answer)


@pytest.mark.parametrize(
    ("name", "text", "is_refused"),
    [
        ("00-admin.conf", "PasswordAuthentication yes\n", True),  # sorts before 00-anynode.conf
        ("50-cloud-init.conf", "PasswordAuthentication yes\n", False),
        ("50-backup.conf", "Match User backup\nPasswordAuthentication yes\n", True),
        ("00-anynode.conf", "PasswordAuthentication yes\n", False),  # of an earlier run
    ],
)
def test_another_drop_in_that_overrides_ours_is_refused(tmp_path: Path, name: str, text: str, is_refused: bool) -> None:
    (tmp_path / "sshd_config").write_text(DEBIANS)
    (tmp_path / "sshd_config.d").mkdir()
    (tmp_path / "sshd_config.d" / name).write_text(text)
    answer = checks.overruled(tmp_path / "sshd_config")
    assert (f"`PasswordAuthentication yes` in {tmp_path}/sshd_config.d/{name}" in answer) if is_refused else not answer


OS_RELEASE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'


def test_only_supported_releases_of_debian_are_accepted() -> None:
    assert checks.unsupported(OS_RELEASE, ["12", "13"]) is None
    assert "Debian GNU/Linux 13 (trixie), but" in checks.unsupported(OS_RELEASE, ["12"])
    assert checks.unsupported(OS_RELEASE.replace("debian", "ubuntu"), ["12", "13"])


PACKAGES = checks.Packages(
    "installed\tnginx\t1.26.3-3\thttpd, httpd-cgi, nginx-abi-1.26.3-1\n"
    "config-files\tredis-server\t5:7.0.15\tredis-api\n"
    "installed\tchrony\t4.6\ttime-daemon\n"
)


def test_missing_packages_are_reported() -> None:
    """A package of which only the configuration files are left is missing; a virtual package is not."""
    required = ["nginx", "nginx=1.26.*", "nginx=1.27.*", "httpd", "redis-server", "redis-api", "nftables"]
    assert PACKAGES.missing(required) == ["nginx=1.27.*", "redis-server", "redis-api", "nftables"]


def test_another_time_daemon_is_found() -> None:
    assert PACKAGES.time_daemon() == "chrony"
    assert checks.Packages("installed\tnginx\t1\t\n").time_daemon() == ""


def test_an_interrupted_installation_is_reported(tmp_path: Path) -> None:
    """Ansible's policy-rc.d stays if it is killed during the installation; that of an administrator is kept."""
    policy = tmp_path / "policy-rc.d"
    assert not checks.is_interrupted("", policy)
    assert checks.is_interrupted("The following packages are only half configured", policy)
    policy.write_text("#!/bin/sh\n# ours\nexit 101\n")
    assert not checks.is_interrupted("", policy)
    policy.write_text(checks.POLICY)
    assert checks.is_interrupted("", policy)


def unit(name: str, load: str = "loaded", active: str = "active", file: str = "enabled") -> str:
    return f"Id={name}\nLoadState={load}\nActiveState={active}\nUnitFileState={file}\n"


def test_units_that_have_to_be_started_are_reported() -> None:
    """A masked unit is left alone, and check mode leaves out units that only a missing package brings."""
    shown = "\n".join(
        [
            unit("running.timer"),
            unit("stopped.timer", active="inactive"),
            unit("disabled.timer", file="disabled"),
            unit("masked.timer", "masked", "inactive", "masked"),
            unit("absent.service", "not-found", "inactive", ""),
        ]
    )
    assert checks.stopped(shown, check_mode=False) == ["stopped.timer", "disabled.timer", "absent.service"]
    assert checks.stopped(shown, check_mode=True) == ["stopped.timer", "disabled.timer"]


def test_the_kernel_parameters_exist() -> None:
    """A misspelled parameter would be ignored silently, like a parameter that the kernel lacks."""
    text = (ROOT / "roles/common/files/sysctl.conf").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    options = [found[1] for line in lines if (found := re.fullmatch(r"-([\w.*]+) = (\d)", line))]
    assert len(options) == len(lines)
    missing = {each for each in options if not [*Path("/proc/sys").glob(each.replace(".", "/"))]}
    # Some kernels lack these.
    assert {each for each in missing if not each.startswith(("kernel.yama.", "net.ipv6."))} == set()
