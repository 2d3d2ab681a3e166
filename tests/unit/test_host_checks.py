"""What a machine is refused for before it is hardened, and the files that harden it."""

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
def apt(tmp_path, monkeypatch):
    """Like /etc/apt, with sources that are all signed."""
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir::Etc "{tmp_path}/";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    for name, text in SIGNED.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_signed_sources_are_fine(apt):
    assert list(checks.unsigned(apt)) == []


@pytest.mark.parametrize("name", UNSIGNED)
def test_a_source_without_signatures_is_named(apt, name):
    (apt / name).write_text(UNSIGNED[name])
    (found,) = checks.unsigned(apt)
    assert str(apt / name) in found


def process(proc, number, name, parent):
    (proc / str(number)).mkdir(parents=True)
    (proc / str(number) / "stat").write_text(f"{number} ({name}) S {parent} 7 7 0 -1\n")


def test_whoever_came_in_over_ssh_is_found(tmp_path):
    """The module below sudo and a shell, these below sshd's two processes of a login, and its listener."""
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
        ("password", "ops", True, "ops came in with a password"),
        ("keyboard-interactive/pam", "ops", True, "ops came in with a password"),
        ("password", "root", False, "root came in with a password"),
    ],
)
def test_nobody_is_locked_out(method, user, no_root, refused):
    # The process id may have been another login's before.
    journal = "Accepted publickey for eve from 192.0.2.1 port 40000 ssh2: ED25519 SHA256:x\npam_unix(sshd:session)\n"
    journal += f"Accepted {method} for {user} from 192.0.2.1 port 40122 ssh2\n"
    said = checks.refusal(*checks.login(journal), no_root, True)
    assert (said is None) if refused is None else (refused in said)


def test_a_login_that_is_not_in_the_journal_may_be_locked_out():
    assert "may be locked out" in checks.refusal(*checks.login(""), True, True)


DEBIANS = "# Port 22\nInclude /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n"


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_an_sshd_that_would_not_listen_is_refused(tmp_path, text, said):
    """The roles' file would lie there, and passwords be taken as before."""
    (tmp_path / "sshd_config").write_text(text)
    answer = checks.overruled(tmp_path / "sshd_config")
    assert (answer is None) if said is None else (said in answer)


@pytest.mark.parametrize(
    ("name", "text", "is_refused"),
    [
        ("00-admin.conf", "PasswordAuthentication yes\n", True),  # comes before 00-anynode.conf
        ("50-cloud-init.conf", "PasswordAuthentication yes\n", False),
        ("50-backup.conf", "Match User backup\nPasswordAuthentication yes\n", True),
        ("00-anynode.conf", "PasswordAuthentication yes\n", False),  # of an earlier run
    ],
)
def test_another_file_of_sshds_folder_may_count_for_more(tmp_path, name, text, is_refused):
    (tmp_path / "sshd_config").write_text(DEBIANS)
    (tmp_path / "sshd_config.d").mkdir()
    (tmp_path / "sshd_config.d" / name).write_text(text)
    answer = checks.overruled(tmp_path / "sshd_config")
    assert (f"`PasswordAuthentication yes` in {tmp_path}/sshd_config.d/{name}" in answer) if is_refused else not answer


def test_the_kernels_options_exist():
    """A misspelt one would be passed over in silence, as one that a kernel lacks is."""
    text = (ROOT / "roles/common/files/sysctl.d/60-anynode.conf").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    options = [re.fullmatch(r"-([\w.*]+) = (\d)", line)[1] for line in lines]
    missing = {each for each in options if not [*Path("/proc/sys").glob(each.replace(".", "/"))]}
    # Some kernels come without these.
    assert {each for each in missing if not each.startswith(("kernel.yama.", "net.ipv6."))} == set()
