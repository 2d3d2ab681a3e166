#!/usr/bin/python
"""Load a table of nftables that is rolled back automatically unless it is confirmed over a new connection."""

import ipaddress
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import write_atomically
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: firewall
short_description: load the rules of the firewall with commit-confirm, or remove them
description:
  - C(checked) refuses a controller that the rules would not admit to SSH. It changes nothing.
  - C(proposed) loads the table C(inet anynode) in a single transaction if other rules are loaded. Unless C(confirmed)
    follows in time, a timer of systemd restores the rules before. A reboot restores them, too, since rules reach the
    file that is loaded at boot when they are confirmed.
  - C(confirmed) keeps the proposed rules if it runs over a new SSH connection.
  - C(absent) removes table, file and unit.
options:
  state:
    type: str
    choices: [checked, proposed, confirmed, absent]
    required: true
    description: requested step
  ssh_sources:
    type: list
    elements: str
    description: "with C(checked): addresses and networks that may connect to SSH"
  rules:
    type: str
    description: "with C(proposed): input of C(nft --file) that replaces the table"
  seconds:
    type: int
    default: 45
    description: "with C(proposed): seconds until the rules before are restored"
  unit:
    type: str
    description: "with C(proposed) and C(confirmed): content of the unit that loads the rules at boot"
  previous_connection:
    type: str
    default: ""
    description: "with C(confirmed): C(connection) as the proposing run returned it; empty if that was not SSH"
"""

EXAMPLES = r"""
- name: Check that the rules admit this controller
  firewall: {state: checked, ssh_sources: [192.0.2.0/24]}
  register: before

- name: Load the rules
  firewall:
    state: proposed
    rules: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
    unit: "{{ lookup('ansible.builtin.file', 'anynode-firewall.service') }}"
  register: proposed

- name: Reset the connection
  ansible.builtin.meta: reset_connection

- name: Keep the rules
  firewall:
    state: confirmed
    unit: "{{ lookup('ansible.builtin.file', 'anynode-firewall.service') }}"
    previous_connection: "{{ before.connection }}"
  when: proposed.to_confirm
"""

RETURN = r"""
connection:
  description: >-
    address and port of the controller, address and port of this host, separated by spaces; empty if the connection is
    not SSH
  type: str
  returned: with C(checked)
  sample: 192.0.2.1 40122 192.0.2.10 22
to_confirm:
  description: whether rules were loaded that are rolled back unless they are confirmed
  type: bool
  returned: with C(proposed)
"""

TABLE = ["table", "inet", "anynode"]
# Replaced by the rules, too: earlier versions had a table for Redis.
OLD = ["table", "inet", "anynode_redis"]
# Without counters and without the connected clients, which are in sets.
LIST = ["nft", "--stateless", "--terse", "list"]
FILE = Path("/etc/anynode/firewall.nft")
UNIT = Path("/etc/systemd/system/anynode-firewall.service")
PROPOSED = Path("/run/anynode-firewall.nft")
BEFORE = Path("/run/anynode-firewall-before.nft")
ROLLBACK = "anynode-firewall-rollback"
CHECKS = ("is-enabled", "is-active")
# Connection tracking has to run for a second before the first rules: otherwise they would drop answers to connections
# that it has not seen.
TRACK = "table inet anynode { chain track { type filter hook input priority filter; ct state new accept; }; }"


def ssh_connection(process: str = "self", proc: Path = Path("/proc")) -> str:
    """Return SSH_CONNECTION of the nearest ancestor that has it (sudo drops it), or an empty string."""
    while process != "0":
        try:
            environment = (proc / process / "environ").read_bytes().decode(errors="replace").split("\0")
            if found := [line for line in environment if line.startswith("SSH_CONNECTION=")]:
                return found[0].partition("=")[2]
        except OSError:
            pass  # a process of another user
        process = (proc / process / "stat").read_text().rpartition(")")[2].split()[1]
    return ""


def admits(sources: list[str], address: str) -> bool:
    """Return whether an address is in the sources. Raises ValueError for an invalid source."""
    parsed = ipaddress.ip_address(address.split("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed in ipaddress.ip_network(source) for source in sources)


class Firewall:
    """The table on this host, its file and its unit."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def run(self, *command: str, **options: Any) -> str:
        """Run a command, which must succeed; return its output."""
        output: str = self.module.run_command(list(command), check_rc=True, **options)[1]
        return output

    def succeeds(self, *command: str) -> bool:
        """Return whether a command succeeds."""
        return bool(self.module.run_command(list(command))[0] == 0)

    def loaded(self, table: list[str] = TABLE) -> str:
        """Return a table as nft lists it, or an empty string if it isn't loaded."""
        output: str = self.module.run_command([*LIST, *table])[1]
        return output

    def expected(self, rules: str) -> str:
        """Return the table as nft would list it, from a network namespace without traffic."""
        script = f"nft --file - && {' '.join(LIST + TABLE)}"
        output: str
        rc, output, error = self.module.run_command(["unshare", "--net", "sh", "-c", script], data=rules)
        if rc:
            self.module.fail_json(msg=f"nft rejects the rules; the loaded rules are unchanged. {error.strip()}")
        return output

    def check(self, sources: list[str]) -> dict[str, Any]:
        """Fail unless the controller could connect to SSH again."""
        connection = ssh_connection()
        controller = connection.partition(" ")[0]
        if controller and not admits(sources, controller):
            self.module.fail_json(
                msg=f"firewall_ssh_sources ({', '.join(sources)}) would lock this controller out: it connects from"
                f" {controller}. No rule was changed on any host. Add that address, or run from a listed address."
            )
        return {"changed": False, "connection": connection}

    def propose(self, rules: str, seconds: int, unit: str) -> dict[str, Any]:
        """Load the rules if other rules, or none, are loaded."""
        file = FILE.read_text() if FILE.exists() else ""
        result = {
            "changed": False,
            "to_confirm": False,
            "diff": {"before": file, "after": rules, "before_header": str(FILE), "after_header": str(FILE)},
        }
        if self.module.check_mode and not self.module.get_bin_path("nft"):
            return result | {"changed": True}  # a fresh host
        expected, loaded = self.expected(rules), self.loaded()
        unconfirmed = self.succeeds("systemctl", "is-active", "--quiet", f"{ROLLBACK}.timer")  # of an interrupted run
        is_kept = rules == file and self.loads_at_boot(unit)
        result["changed"] = unconfirmed or expected != loaded or not is_kept
        if self.module.check_mode or not result["changed"]:
            return result
        if expected == loaded and not unconfirmed:
            self.keep(rules, unit)
            return result
        self.load(rules, loaded, seconds, unconfirmed)
        return result | {"to_confirm": True}

    def load(self, rules: str, loaded: str, seconds: int, unconfirmed: bool) -> None:
        """Load the rules, after starting the timer that rolls them back."""
        write_atomically(PROPOSED, rules)
        if unconfirmed:  # the rollback restores the last confirmed rules
            self.run("systemctl", "restart", f"{ROLLBACK}.timer")
        else:
            tables = {" ".join(table): self.loaded(table) for table in (TABLE, OLD)}
            write_atomically(BEFORE, "".join(f"{name}\ndelete {name}\n{text}\n" for name, text in tables.items()))
            timer = [f"--unit={ROLLBACK}", f"--on-active={seconds}", "--timer-property=AccuracySec=1s"]
            self.run(
                "systemd-run",
                "--collect",
                "--quiet",
                *timer,
                self.module.get_bin_path("nft", required=True),
                "--file",
                str(BEFORE),
            )
        if not loaded:
            self.run("nft", "--file", "-", data=TRACK)
            time.sleep(1)
        self.run("nft", "--file", str(PROPOSED))

    def confirm(self, unit: str, previous_connection: str) -> dict[str, Any]:
        """Keep the proposed rules; fail over the previous connection, or if the rules were rolled back meanwhile."""
        # A connection that was open before proves nothing: the rules admit established connections.
        if previous_connection and ssh_connection() == previous_connection:
            self.module.fail_json(
                msg="ssh still uses the previous connection, because of a ControlPath in its own configuration"
                " (make STRATEGY=linear overrides that)."
            )
        self.module.run_command(["systemctl", "stop", f"{ROLLBACK}.timer"])  # it may have elapsed
        rules = PROPOSED.read_text()
        if self.loaded() != self.expected(rules):
            self.run("nft", "--file", str(BEFORE))
            self.module.fail_json(msg="The new rules were rolled back: they were not confirmed in time.")
        self.keep(rules, unit)
        return {"changed": True}

    def loads_at_boot(self, unit: str) -> bool:
        """Return whether the unit is installed, enabled and active."""
        installed = UNIT.exists() and UNIT.read_text() == unit
        return installed and all(self.succeeds("systemctl", verb, "--quiet", UNIT.name) for verb in CHECKS)

    def keep(self, rules: str, unit: str) -> None:
        """Write the rules to the file that is loaded at boot, and enable the unit that loads it."""
        FILE.parent.mkdir(mode=0o755, exist_ok=True)
        write_atomically(FILE, rules)
        if not self.loads_at_boot(unit):
            write_atomically(UNIT, unit)
            self.run("systemctl", "daemon-reload")
            self.run("systemctl", "enable", "--now", UNIT.name)

    def remove(self) -> dict[str, Any]:
        """Remove table, file and unit."""
        changed = UNIT.exists() or FILE.exists() or bool(self.module.get_bin_path("nft") and self.loaded())
        if changed and not self.module.check_mode:
            # The rollback of an interrupted run would restore rules.
            self.module.run_command(["systemctl", "stop", f"{ROLLBACK}.timer", f"{ROLLBACK}.service"])
            self.module.run_command(["systemctl", "disable", "--now", UNIT.name])
            self.module.run_command(["nft", "delete", *TABLE])
            for path in (UNIT, FILE):
                path.unlink(missing_ok=True)
            self.run("systemctl", "daemon-reload")
        return {"changed": changed}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["checked", "proposed", "confirmed", "absent"], "required": True},
            "ssh_sources": {"type": "list", "elements": "str"},
            "rules": {"type": "str"},
            "seconds": {"type": "int", "default": 45},
            "unit": {"type": "str"},
            "previous_connection": {"type": "str", "default": ""},
        },
        required_if=[
            ("state", "checked", ["ssh_sources"]),
            ("state", "proposed", ["rules", "unit"]),
            ("state", "confirmed", ["unit"]),
        ],
        supports_check_mode=True,
    )
    firewall, args = Firewall(module), module.params
    if args["state"] == "checked":
        result = firewall.check(args["ssh_sources"])
    elif args["state"] == "proposed":
        result = firewall.propose(args["rules"], args["seconds"], args["unit"])
    elif args["state"] == "confirmed":
        result = firewall.confirm(args["unit"], args["previous_connection"])
    else:
        result = firewall.remove()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
