"""Secrets are in the files that need them, with strict modes, and nowhere else."""

import re
import subprocess

from lib.cluster import ROOT, SECRETS, Cluster

# The files on hosts that may hold a secret, and their modes.
APP = "/srv/anynode/(deployments/[^/]+|next)/secrets.env 600"
PLACES = {
    "redis_app_password": APP,
    "app_secret_key": APP,
    "nginx_maintenance_bypass_token": "/etc/nginx/maintenance-bypass.conf 600",
}
SSH = "/etc/ssh/ssh_host_ed25519_key 600"  # copied there before the container first started
TLS = "/etc/anynode/tls/[a-z]+.key 6[04]0"
DISK = "/etc /home /opt /root /run /srv /tmp /usr/local /var"


def place(name: str, host: str) -> str | None:
    """Return the place of a secret on a host, as a regular expression for path and mode; None: nowhere."""
    if name == f"ssh/host_{host}":
        return SSH
    return TLS if name.startswith(f"{host}:") else PLACES.get(name)


def test_secrets_are_only_in_the_files_that_need_them(cluster: Cluster) -> None:
    """All disks are searched for all secrets: no copy, no backup, no temporary file, no log."""
    secrets = cluster.secrets()
    names = {line: name for name, line in secrets.items()}
    assert len(names) == len(secrets), "two secrets are equal"
    assert set(SECRETS) | {"ca.key", "ssh/id_ed25519"} <= set(secrets)
    patterns = " ".join(f"-e '{line}'" for line in names)
    found: dict[str, list[tuple[str, str]]] = {}
    for host in cluster.address:
        lines = cluster.run(host, f"grep -raoHF --devices=skip {patterns} {DISK} 2>/dev/null", check=False).splitlines()
        for path, name in {(path, names[line]) for path, _, line in (each.partition(":") for each in lines)}:
            where = cluster.run(host, f"stat -c '%n %a' '{path}'", check=False)
            found.setdefault(host, []).append((name, where))
    wrong = [(host, *each) for host, pairs in found.items() for each in pairs if not fits(host, *each)]
    assert wrong == []
    assert {name for name, _ in found[cluster.apps[0]]} >= {"redis_app_password", "app_secret_key"}
    for host in cluster.apps:
        assert cluster.run(host, "runuser -u anynode -- cat /srv/anynode/current/secrets.env", check=False) == ""


def fits(host: str, name: str, where: str) -> bool:
    """Return whether a secret may be in this file with this mode."""
    return re.fullmatch(place(name, host) or "nowhere", where) is not None


def test_no_secret_is_in_processes_units_or_journals(cluster: Cluster) -> None:
    """Neither in arguments, nor in the environment as other users see it."""
    secrets = cluster.secrets()
    shown = "ps axww -o args; runuser -u nobody -- ps axwwe; systemctl show '*'; journalctl --no-pager -o cat -a"
    for host in cluster.address:
        text = cluster.run(host, shown)
        # Each command printed something.
        assert "/sbin/init" in text and "PATH=" in text and "Accepted publickey" in text
        assert [name for name, line in secrets.items() if line in text] == [], host


def test_secrets_on_the_controller_are_readable_by_their_owner_only(cluster: Cluster) -> None:
    """Mode 0600, ignored by git, and in no file of the repository."""
    directory = cluster.inventory.parent / ".secrets"
    secrets = cluster.secrets()
    here = [directory / name for name in secrets if ":" not in name]  # the others are on hosts
    assert {str(path): oct(path.stat().st_mode & 0o777) for path in here} == {str(path): "0o600" for path in here}
    ignored = subprocess.run(["git", "check-ignore", "--quiet", directory], cwd=cluster.inventory.parent, check=False)
    assert ignored.returncode == 0
    patterns = "\n".join(secrets.values())
    command = ["git", "grep", "--untracked", "-laF", "-f", "-"]
    done = subprocess.run(command, cwd=ROOT, input=patterns, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
