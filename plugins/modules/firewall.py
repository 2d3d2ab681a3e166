#!/usr/bin/python
"""Loads a table of nftables so that it goes away again by itself unless it is confirmed."""

import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: firewall
short_description: load rules on probation, confirm them, take them away
description:
  - C(proposed) loads the table C(inet anynode) in one transaction if it isn't what is loaded. Unless C(confirmed)
    follows in time, a timer of systemd puts back what was loaded before. A reboot does, too, since the rules reach
    their file when they are confirmed.
  - C(absent) removes table, file and unit.
options:
  state: {type: str, choices: [proposed, confirmed, absent], default: proposed, description: what to do}
  rules: {type: str, description: "with C(proposed): what C(nft --file) takes, which makes the table anew"}
  seconds: {type: int, default: 45, description: "with C(proposed): until the table before comes back"}
"""

RETURN = r"""
to_confirm: {type: bool, description: whether rules were loaded that go away unless they are confirmed}
"""

TABLE = ["table", "inet", "anynode"]
# What the rules replace, too: Redis had a table to itself once.
OLD = ["table", "inet", "anynode_redis"]
# Without counters, and without who is connected, which is in sets.
LIST = ["nft", "--stateless", "--terse", "list"]
FILE = Path("/etc/anynode/firewall.nft")
UNIT = Path("/etc/systemd/system/anynode-firewall.service")
PROPOSED = Path("/run/anynode-firewall.nft")
BEFORE = Path("/run/anynode-firewall-before.nft")
UNDO = "anynode-firewall-rollback"
# With conntrack at work for a second, no answer that is under way meets rules that never heard of the question.
LEARN = "table inet anynode { chain learn { type filter hook input priority filter; ct state new accept; }; }"


class Firewall:
    """The table on this machine, and its file."""

    def __init__(self, module):
        self.module = module

    def run(self, *command, **options):
        """Run a command, which must succeed; return what it printed."""
        return self.module.run_command(list(command), check_rc=True, **options)[1]

    def loaded(self, table=TABLE):
        """Return a table in nft's words, or nothing if it isn't loaded."""
        return self.module.run_command([*LIST, *table])[1]

    def meant(self, rules):
        """Return what the table would be in nft's words; tried where there is no traffic."""
        script = f"nft --file - && {' '.join(LIST + TABLE)}"
        rc, out, err = self.module.run_command(["unshare", "--net", "sh", "-c", script], data=rules)
        if rc:
            self.module.fail_json(msg=f"nft refuses the rules; those before are as they were. {err.strip()}")
        return out

    def awaits(self):
        """Tell whether rules are on probation."""
        return self.module.run_command(["systemctl", "is-active", "--quiet", f"{UNDO}.timer"])[0] == 0

    def propose(self, rules, seconds):
        """Load the rules if others, or none, are loaded."""
        file = FILE.read_text() if FILE.exists() else ""
        result = {
            "changed": False,
            "to_confirm": False,
            "diff": {"before": file, "after": rules, "before_header": str(FILE), "after_header": str(FILE)},
        }
        if self.module.check_mode and not self.module.get_bin_path("nft"):
            return result | {"changed": True}  # a machine that was never provisioned
        meant, loaded = self.meant(rules), self.loaded()
        on_probation = self.awaits()  # a run has ended early
        result["changed"] = on_probation or (meant, rules) != (loaded, file)
        if self.module.check_mode or not result["changed"]:
            return result
        if meant == loaded and not on_probation:
            self.keep(rules)
            return result
        self.load(rules, loaded, seconds, on_probation)
        return result | {"to_confirm": True}

    def load(self, rules, loaded, seconds, on_probation):
        """Load the rules, after the timer that takes them back was set."""
        PROPOSED.write_text(rules)
        if on_probation:  # what comes back is what was there before those
            self.run("systemctl", "restart", f"{UNDO}.timer")
        else:
            tables = {" ".join(table): self.loaded(table) for table in (TABLE, OLD)}
            BEFORE.write_text("".join(f"{name}\ndelete {name}\n{text}\n" for name, text in tables.items()))
            timer = [f"--unit={UNDO}", f"--on-active={seconds}", "--timer-property=AccuracySec=1s"]
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
            self.run("nft", "--file", "-", data=LEARN)
            time.sleep(1)
        self.run("nft", "--file", str(PROPOSED))

    def confirm(self):
        """Keep the rules that were proposed; fail if they have gone by now."""
        self.module.run_command(["systemctl", "stop", f"{UNDO}.timer"])  # it may be over
        rules = PROPOSED.read_text()
        if self.loaded() != self.meant(rules):
            self.run("nft", "--file", str(BEFORE))
            self.module.fail_json(msg="The new rules are no longer loaded: the time to confirm them was over.")
        self.keep(rules)
        return {"changed": True}

    def keep(self, rules):
        """Write the file that is loaded at boot."""
        FILE.parent.mkdir(mode=0o755, exist_ok=True)
        new = FILE.with_suffix(".new")
        new.write_text(rules)
        new.chmod(0o644)
        with new.open() as written:
            os.fsync(written.fileno())
        new.replace(FILE)

    def remove(self):
        """Take table, file and unit away."""
        changed = UNIT.exists() or FILE.exists() or bool(self.module.get_bin_path("nft") and self.loaded())
        if changed and not self.module.check_mode:
            # Of a run that ended early; what was there before would come back.
            self.module.run_command(["systemctl", "stop", f"{UNDO}.timer", f"{UNDO}.service"])
            self.module.run_command(["systemctl", "disable", "--now", UNIT.name])
            self.module.run_command(["nft", "delete", *TABLE])
            for path in (UNIT, FILE):
                path.unlink(missing_ok=True)
            self.run("systemctl", "daemon-reload")
        return {"changed": changed}


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["proposed", "confirmed", "absent"], "default": "proposed"},
            "rules": {"type": "str"},
            "seconds": {"type": "int", "default": 45},
        },
        required_if=[("state", "proposed", ["rules"])],
        supports_check_mode=True,
    )
    firewall = Firewall(module)
    if module.params["state"] == "proposed":
        result = firewall.propose(module.params["rules"], module.params["seconds"])
    elif module.params["state"] == "confirmed":
        result = firewall.confirm()
    else:
        result = firewall.remove()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
