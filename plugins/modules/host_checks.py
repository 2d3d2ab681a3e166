#!/usr/bin/python
"""Check a host before it is changed: supported system, SSH access after hardening, package sources, packages, units."""

import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_checks
short_description: check a host before it is changed
description:
  - Read-only. Fails with the cause and the remedy if the host must not be provisioned as requested.
  - Returns the packages and units that a run has to install and to start, so that a run with nothing to do needs no
    further task for them.
options:
  supported_releases:
    type: list
    elements: str
    required: true
    description: major versions of Debian; any other system is refused
  no_root:
    type: bool
    required: true
    description: refuse if Ansible is connected over SSH as root
  key_only:
    type: bool
    required: true
    description: refuse if Ansible is connected over SSH with a password
  signed_sources:
    type: bool
    required: true
    description: refuse package sources that need no signature
  packages:
    type: list
    elements: str
    required: true
    description: required packages, each C(NAME) or C(NAME=VERSION), where the version may contain C(*)
  security_updates:
    type: bool
    required: true
    description: require unattended-upgrades and its timers, except units that are masked
  time_sync:
    type: bool
    required: true
    description: require systemd-timesyncd, unless the host has another package that keeps the time
"""

EXAMPLES = r"""
- name: Check the host
  host_checks:
    supported_releases: ["12", "13"]
    no_root: true
    key_only: true
    signed_sources: true
    packages: [ca-certificates, redis-server]
    security_updates: true
    time_sync: true
  register: host
"""

RETURN = r"""
missing_packages:
  description: required packages that are not installed
  type: list
  elements: str
  returned: success
  sample: [redis-server]
interrupted:
  description: whether an interrupted installation has to be finished
  type: bool
  returned: success
stopped_units:
  description: units to enable and start; in check mode without those that a missing package brings
  type: list
  elements: str
  returned: success
  sample: [apt-daily.timer]
"""

YES = "(yes|true|with|on|enable|1)"
ONE_LINE = re.compile(rf"^\s*deb(-src)?\s+\[[^]]*\b(trusted|allow-(insecure|weak))\s*=\s*{YES}\b", re.I | re.M)
DEB822 = re.compile(rf"^(trusted|allow-(insecure|weak)):\s*{YES}\s*$", re.I | re.M)
SSH_FILE = "00-anynode.conf"
SSH_OPTION = re.compile("passwordauthentication|(kbdinteractive|challengeresponse)authentication|permitrootlogin")
OPTIONS = "AllowUnauthenticated|AllowInsecureRepositories|AllowWeakRepositories|AllowDowngradeToInsecureRepositories"
OPTION = re.compile(rf'^\S*({OPTIONS}) "{YES}"', re.I | re.M)
UPDATE_UNITS = ["apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service"]
TIME_UNIT = "systemd-timesyncd.service"
# Of ansible.builtin.apt: if Ansible is killed during an installation, the file stays and no package starts a service.
POLICY = "#!/bin/sh\nexit 101\n"


def output(*command: str, check: bool = True) -> str:
    """Return the standard output of a command."""
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout


def unsupported(os_release: str, releases: list[str]) -> str | None:
    """Return the reason to refuse the system that /etc/os-release describes, or None. releases: of Debian."""
    found = dict(line.split("=", 1) for line in os_release.replace('"', "").splitlines() if "=" in line)
    if found.get("ID") == "debian" and found.get("VERSION_ID") in releases:
        return None
    return (
        f"it runs {found.get('PRETTY_NAME', 'an unknown system')}, but the roles are tested on Debian"
        f" {' and '.join(releases)} only. Remove the host from the inventory or reinstall it."
    )


def unsigned(folder: Path = Path("/etc/apt")) -> Iterator[str]:
    """Yield each setting that lets apt install unsigned packages, with its file."""
    for path in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        pattern = {".list": ONE_LINE, ".sources": DEB822}.get(path.suffix)
        if pattern and path.is_file() and (found := pattern.search(path.read_text(errors="replace"))):
            yield f"{path} has a source without signatures ({found[0].strip()})"
    for option in OPTION.finditer(output("apt-config", "dump")):
        files = [folder / "apt.conf", *sorted(folder.glob("apt.conf.d/*"))]
        where = [str(path) for path in files if path.is_file() and option[1] in path.read_text(errors="replace")]
        yield f"{' or '.join(where) or 'apt-config dump'} has {option[0].split()[0]} enabled"


def sshd_processes(process: str = "self", proc: Path = Path("/proc")) -> list[str]:
    """Return the ids of the sshd processes among the ancestors of a process, [] without an SSH connection."""
    found = []
    while process != "0":
        stat = (proc / process / "stat").read_text()
        _, _, rest = stat.rpartition(")")
        if stat.partition("(")[2].startswith("sshd"):
            found.append(stat.split()[0])
        process = rest.split()[1]
    return found


def login(journal: str) -> tuple[str, str] | tuple[None, None]:
    """Return (method, user) of the latest login in sshd's journal."""
    found: list[tuple[str, str]] = re.findall(r"^Accepted (\S+) for (\S+) from ", journal, re.MULTILINE)
    return found[-1] if found else (None, None)


def locked_out(no_root: bool, key_only: bool) -> str | None:
    """Return the reason why hardening would lock the operator out, or None."""
    processes = sshd_processes()
    if not processes:
        return None
    command = ["journalctl", "--boot", "--quiet", "--no-pager", "--output=cat", *(f"_PID={each}" for each in processes)]
    method, user = login(output(*command, check=False))
    return refusal(method, user, no_root, key_only)


def refusal(method: str | None, user: str | None, no_root: bool, key_only: bool) -> str | None:
    """Return the reason why a login like this would fail after hardening, or None."""
    if not method:
        return (
            "the login of this connection is not in sshd's journal, so it may be locked out. Fix `journalctl -t sshd`"
            " (is LogLevel below INFO?), or keep sshd as it is with common_ssh: false."
        )
    if no_root and user == "root":
        return (
            "Ansible is connected as root, and root could not log in again. Set ansible_user to a user with sudo,"
            " or allow root with a key by common_root_login: true."
        )
    if key_only and method in ("password", "keyboard-interactive/pam"):
        return (
            f"{user} logged in with a password, and could not log in again. Install a key on the host"
            f" (ssh-copy-id) and connect with it, or keep sshd as it is with common_ssh: false."
        )
    return None


def sshd_lines(config: Path) -> Iterator[tuple[Path, str, list[str], bool]]:
    """Yield (file, line, words in lower case, whether below a Match) in the order in which sshd reads them.

    The drop-in of the role is yielded as ["ours"], even if it doesn't exist yet: `sshd -T` couldn't show its effect
    before it is written, and shows the result of a Match only for a user and an address that are known in advance.
    """
    below_match = False
    for line in config.read_text(errors="replace").splitlines() if config.exists() else ():
        words = re.split(r"[\s=]+", line.strip().lower())
        if words[0] == "include" and any(re.match(r"(/etc/ssh/)?sshd_config\.d/\*", word) for word in words):
            names = {SSH_FILE, *(path.name for path in config.with_name("sshd_config.d").glob("*.conf"))}
            for path in (config.with_name("sshd_config.d") / name for name in sorted(names)):
                if path.name == SSH_FILE:
                    yield path, "", ["ours"], below_match
                else:  # a Match ends with its file
                    yield from sshd_lines(path)
            continue
        below_match = below_match or words[0] == "match"
        yield config, line.strip(), words, below_match


def overruled(config: Path = Path("/etc/ssh/sshd_config")) -> str | None:
    """Return the setting that overrides the role's drop-in in sshd_config.d, or None.

    sshd uses the first value (sshd_config(5)), but a value below a Match also overrides an earlier value outside.
    """
    ours, ours_counts = False, False
    for path, line, words, below_match in sshd_lines(config):
        if words[0] == "ours":
            ours, ours_counts = True, not below_match
        elif SSH_OPTION.fullmatch(words[0]) and words[1:2] != ["no"] and (below_match or not ours):
            return _remedy(f"`{line}` in {path}" + (" stands below a Match" if below_match else " comes before it"))
    return None if ours_counts else _remedy(f"{config} has no Include of /etc/ssh/sshd_config.d/*.conf before a Match")


def _remedy(found: str) -> str:
    return (
        f"sshd would ignore the drop-in /etc/ssh/sshd_config.d/{SSH_FILE}: {found}. Remove that, put the Include"
        " of that directory on the first line of sshd_config, or keep sshd as it is with common_ssh: false."
    )


class Packages:
    """The installed packages, from the output of dpkg-query in FORMAT."""

    FORMAT = "${db:Status-Status}\t${Package}\t${Version}\t${Provides}\n"

    def __init__(self, listed: str) -> None:
        rows = [line.split("\t") for line in listed.splitlines()]
        self.provides = {name: provides for status, name, _, provides in rows if status == "installed"}
        self.versions = {name: version for status, name, version, _ in rows if status == "installed"}
        self.virtual = {each.split()[0] for text in self.provides.values() for each in text.split(",") if each.strip()}

    def missing(self, required: list[str]) -> list[str]:
        """Return the required packages, NAME or NAME=VERSION, that are not installed."""
        return [each for each in required if not self._has(*each.partition("=")[::2])]

    def _has(self, name: str, version: str) -> bool:
        if version:
            return fnmatchcase(self.versions.get(name, ""), version)
        return name in self.versions or name in self.virtual

    def time_daemon(self) -> str:
        """Return the package that keeps the time: chrony, ntpsec, systemd-timesyncd ..., or an empty string."""
        return next((name for name, text in self.provides.items() if re.search(r"\btime-daemon\b", text)), "")


def is_interrupted(audit: str, policy: Path = Path("/usr/sbin/policy-rc.d")) -> bool:
    """Return whether an installation was interrupted. audit: the output of dpkg --audit."""
    return bool(audit.strip()) or (policy.is_file() and policy.read_text(errors="replace") == POLICY)


def stopped(shown: str, check_mode: bool) -> list[str]:
    """Return the units, of those in the output of systemctl show, that have to be enabled and started.

    A masked unit was switched off on purpose. A unit that doesn't exist comes with a package, but not in check mode.
    """
    found = []
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines())
        runs = unit["ActiveState"] == "active" and unit["UnitFileState"] == "enabled"
        if not runs and unit["LoadState"] != "masked" and not (check_mode and unit["LoadState"] == "not-found"):
            found.append(unit["Id"])
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "supported_releases": {"type": "list", "elements": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            **{
                name: {"type": "bool", "required": True}
                for name in ("no_root", "key_only", "signed_sources", "security_updates", "time_sync")
            },
        },
        supports_check_mode=True,
    )
    args = module.params
    errors = [unsupported(Path("/etc/os-release").read_text(), args["supported_releases"])]
    if args["no_root"] or args["key_only"]:
        errors += [locked_out(args["no_root"], args["key_only"]), overruled()]
    if args["signed_sources"]:
        errors += [f"{each}; remove that, or set common_signed_sources: false." for each in unsigned()]
    if refused := [error for error in errors if error]:
        module.fail_json(msg="Nothing was changed on this host: " + " ".join(refused))

    installed = Packages(output("dpkg-query", "--show", f"--showformat={Packages.FORMAT}"))
    required, units = list(args["packages"]), []
    if args["security_updates"]:
        required.append("unattended-upgrades")
        units += UPDATE_UNITS
    if args["time_sync"] and installed.time_daemon() in ("", "systemd-timesyncd"):
        required.append("systemd-timesyncd")
        is_container = subprocess.run(["systemd-detect-virt", "--quiet", "--container"], check=False).returncode == 0
        if not is_container:  # a container shares the clock of its host
            units.append(TIME_UNIT)
    properties = "--property=Id,LoadState,ActiveState,UnitFileState"
    module.exit_json(
        changed=False,
        missing_packages=installed.missing(required),
        interrupted=is_interrupted(output("dpkg", "--audit")),
        stopped_units=stopped(output("systemctl", "show", properties, *units), module.check_mode) if units else [],
    )


if __name__ == "__main__":
    main()
