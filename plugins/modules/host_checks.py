#!/usr/bin/python
"""Refuses a machine on which hardening would lock somebody out, or packages come from anybody."""

import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_checks
short_description: look at a machine before it is hardened; changes nothing
description:
  - Fails with the culprit and the remedy. Returns C(time_daemon), its package or C(""); C(is_container), whose
    clock is its host's; and C(update_timers), those of apt that nobody masked.
options:
  no_root: {type: bool, required: true, description: refuse if this run came in over SSH as root}
  key_only: {type: bool, required: true, description: refuse if it came in without a key}
  signed_sources: {type: bool, required: true, description: refuse package sources that need no signature}
"""

YES = "(yes|true|with|on|enable|1)"
ONE_LINE = re.compile(rf"^\s*deb(-src)?\s+\[[^]]*\b(trusted|allow-(insecure|weak))\s*=\s*{YES}\b", re.I | re.M)
DEB822 = re.compile(rf"^(trusted|allow-(insecure|weak)):\s*{YES}\s*$", re.I | re.M)
SSH_FILE = "00-anynode.conf"
SSH_OPTION = re.compile("passwordauthentication|(kbdinteractive|challengeresponse)authentication|permitrootlogin")
OPTIONS = "AllowUnauthenticated|AllowInsecureRepositories|AllowWeakRepositories|AllowDowngradeToInsecureRepositories"
OPTION = re.compile(rf'^\S*({OPTIONS}) "{YES}"', re.I | re.M)


def unsigned(folder=Path("/etc/apt")):
    """Return what lets apt install packages that nobody signed, each with the file that says so."""
    for path in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        pattern = {".list": ONE_LINE, ".sources": DEB822}.get(path.suffix)
        found = pattern and path.is_file() and pattern.search(path.read_text(errors="replace"))
        if found:
            yield f"{path} has a source without signatures ({found[0].strip()})"
    told = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    for found in OPTION.finditer(told):
        files = [folder / "apt.conf", *sorted(folder.glob("apt.conf.d/*"))]
        where = [str(path) for path in files if path.is_file() and found[1] in path.read_text(errors="replace")]
        yield f"{' or '.join(where) or 'apt-config dump'} has {found[0].split()[0]} switched on"


def sshd_processes(process="self", proc=Path("/proc")):
    """Return the ids of the processes of sshd that this one descends from, [] if it came otherwise."""
    found = []
    while process != "0":
        stat = (proc / process / "stat").read_text()
        name, rest = re.search(r"\((.*)\) \S (\d+)", stat, re.DOTALL).groups()
        if name.startswith("sshd"):
            found.append(stat.split()[0])
        process = rest
    return found


def login(journal):
    """Return how, and as whom, somebody came in, by sshd's words in the journal, the latest last: (method, user)."""
    found = re.findall(r"^Accepted (\S+) for (\S+) from ", journal, re.MULTILINE)
    return found[-1] if found else (None, None)


def locked_out(no_root, key_only):
    """Return why whoever runs this could not come back, or None."""
    processes = sshd_processes()
    if not processes:
        return None
    command = ["journalctl", "--boot", "--quiet", "--no-pager", "--output=cat", *(f"_PID={each}" for each in processes)]
    method, user = login(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return refusal(method, user, no_root, key_only)


def refusal(method, user, no_root, key_only):
    """Say why who came in like this could not come back, or None."""
    if not method:
        return (
            "sshd's journal doesn't say how this run came in, so it may be locked out. Mend `journalctl -t sshd`"
            " (is LogLevel below INFO?), or leave sshd as it is with common_ssh: false."
        )
    if no_root and user == "root":
        return (
            "this run came in as root, and nobody could do so again. Give ansible_user the name of a user who may sudo,"
            " or let root in with a key by common_root_login: true."
        )
    if key_only and method in ("password", "keyboard-interactive/pam"):
        return (
            f"{user} came in with a password, and could not do so again. Bring a key to the machine"
            f" (ssh-copy-id) and connect with it, or leave sshd as it is with common_ssh: false."
        )
    return None


def sshd_lines(config):
    """Yield (file, line, words in lower case, whether below a Match) as sshd reads them, with our folder's."""
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


def overruled(config=Path("/etc/ssh/sshd_config")):
    """Say what counts for more than the roles' file in sshd_config.d, or None.

    For sshd the first word counts (sshd_config(5)), but below a Match also after one that stands outside.
    """
    ours, ours_counts = False, False
    for path, line, words, below_match in sshd_lines(config):
        if words[0] == "ours":
            ours, ours_counts = True, not below_match
        elif SSH_OPTION.fullmatch(words[0]) and words[1:2] != ["no"] and (below_match or not ours):
            return _remedy(f"`{line}` in {path}" + (" stands below a Match" if below_match else " comes before it"))
    return None if ours_counts else _remedy(f"{config} has no Include of /etc/ssh/sshd_config.d/*.conf before a Match")


def _remedy(said):
    return (
        f"sshd would not heed the roles' file /etc/ssh/sshd_config.d/{SSH_FILE}: {said}. Remove that, put the Include"
        " of that folder on the first line of sshd_config, or leave sshd as it is with common_ssh: false."
    )


def time_daemon():
    """Return the installed package that keeps the clock right: chrony, ntpsec, systemd-timesyncd, ...; or nothing."""
    form = "${db:Status-Status} ${Package} ${Provides}\n"
    told = subprocess.run(["dpkg-query", "--show", f"--showformat={form}"], capture_output=True, text=True, check=True)
    found = re.search(r"^installed (\S+) .*\btime-daemon\b", told.stdout, re.MULTILINE)
    return found[1] if found else ""


def is_container():
    """Tell whether this machine shares its kernel, and so its clock."""
    return subprocess.run(["systemd-detect-virt", "--quiet", "--container"], check=False).returncode == 0


def update_timers():
    """Return the timers of apt, without those that somebody masked and so meant to be off."""
    names = ["apt-daily.timer", "apt-daily-upgrade.timer"]
    told = subprocess.run(["systemctl", "is-enabled", *names], capture_output=True, text=True, check=False).stdout
    return [name for name, state in zip(names, told.split(), strict=False) if not state.startswith("masked")]


def main():
    """Run as an Ansible module."""
    names = ("no_root", "key_only", "signed_sources")
    module = AnsibleModule(
        argument_spec={name: {"type": "bool", "required": True} for name in names}, supports_check_mode=True
    )
    asked = module.params
    errors = []
    if asked["no_root"] or asked["key_only"]:
        errors += filter(None, [locked_out(asked["no_root"], asked["key_only"]), overruled()])
    if asked["signed_sources"]:
        errors += [f"{each}; remove that, or say common_signed_sources: false." for each in unsigned()]
    if errors:
        module.fail_json(msg="Nothing was changed on this machine: " + " ".join(errors))
    found = {"time_daemon": time_daemon(), "is_container": is_container(), "update_timers": update_timers()}
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
