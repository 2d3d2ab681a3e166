#!/usr/bin/python
"""Prepares, activates, restores, marks and removes the deployments of an app node."""

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.deployments import (
    DeploymentError,
    Deployments,
    Files,
    app_units,
    differing,
    read_files,
    read_record,
    replace_link,
    timestamp,
    update_record,
)
from ansible.module_utils.anynode.files import text_diff, write_atomically
from ansible.module_utils.anynode.units import pending
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_deployment
short_description: manage the deployments of the app on this node
description:
  - A deployment is a directory C(deployments/<id>) with a link to a release, the settings and the systemd units.
    C(current) links to the active deployment, so release and settings change in one rename, and change back in one.
  - C(next/) has the files that the node should run. C(outdated) in the result lists how the active deployment
    differs, and files that changed after the app had read them.
  - Supports check mode and diff; a diff never shows the content of C(secret_files).
options:
  root:
    description: Directory of the releases and deployments.
    type: path
    required: true
  name:
    description: Name of the systemd units.
    type: str
    required: true
  state:
    description:
      - C(queried) changes nothing.
      - C(prepared) creates the directories and writes C(next/).
      - C(active) makes a deployment of C(next/) and restarts the app, unless the node runs that already.
      - C(restored) makes the last good deployment active again.
      - C(good) and C(bad) mark the active deployment, C(rolled_back) marks the newest deployment of C(release). Only a
        good deployment is ever restored.
      - C(pruned) removes old deployments and releases, and replaces the secrets of the deployments that stay by the
        current secrets.
    type: str
    required: true
    choices: [queried, prepared, active, restored, good, bad, rolled_back, pruned]
  files:
    description: With C(prepared), the content of each file, by name. The mode is 0644.
    type: dict
    default: {}
  secret_files:
    description: Like C(files), with the mode 0600. The content never appears in logs, results and diffs.
    type: dict
    default: {}
  release:
    description: With C(prepared), the directory of the release; with C(rolled_back), the id of the release.
    type: str
    default: ""
  id:
    description: With C(active), the id of the deployment.
    type: str
    default: ""
  by:
    description: The operator, as user@host, for the record of the deployment.
    type: str
    default: ""
  reason:
    description: With C(bad), the failure, for the record of the deployment.
    type: str
    default: ""
  reads:
    description: Files outside C(root) that the app reads when it starts.
    type: list
    elements: path
    default: []
  keep:
    description: With C(pruned), the number of deployments and of releases that stay.
    type: int
    default: 5
"""

EXAMPLES = r"""
- name: Prepare a deployment
  app_deployment:
    root: /srv/anynode
    name: anynode
    state: prepared
    release: /srv/anynode/releases/1.4-0123456789ab-py3.13
    files:
      app.env: "{{ lookup('ansible.builtin.template', 'app.env.j2') }}"
    secret_files:
      secrets.env: "{{ lookup('ansible.builtin.template', 'secrets.env.j2') }}"

- name: Activate the prepared deployment
  app_deployment:
    root: /srv/anynode
    name: anynode
    state: active
    id: 20261122T100000Z-1a2b
    by: ada@desk
"""

RETURN = r"""
current:
  description: Record of the active deployment (C(id), C(release), C(state), C(started), C(by)), empty without any.
  returned: always
  type: dict
outdated:
  description: Why the node needs a deployment; empty if it runs the files of C(next/) and passed the health check.
  returned: always
  type: list
  elements: str
  sample: [app.env changed]
last_good_release:
  description: Release that a rollback would activate, or null.
  returned: always
  type: str
rolled_back:
  description: Records of the releases that were rolled back, by release id.
  returned: always
  type: dict
releases:
  description: Names of the release directories on the node.
  returned: always
  type: list
  elements: str
removed:
  description: >-
    Names of the deployments and releases that C(pruned) has removed, and C(ID's secrets) for each deployment ID that
    stays and whose secrets were replaced.
  returned: always
  type: list
  elements: str
"""

STATES = ["queried", "prepared", "active", "restored", "good", "bad", "rolled_back", "pruned"]
UNITS = Path("/etc/systemd/system")


def systemctl(*arguments: str) -> None:
    """Run systemctl. Raises DeploymentError with its message if it fails."""
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeploymentError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")


def switch_to(node: Deployments, deployment: Path, name: str) -> None:
    """Make a deployment active, install its units and restart the app.

    The socket stays open unless its unit changed, so that systemd queues connections during the restart.
    """
    update_record(deployment, started=None)  # an interruption from here on is visible to the next run
    replace_link(node.link, f"deployments/{deployment.name}")
    units = {unit: (deployment / unit).read_bytes() for unit in (f"{name}.socket", f"{name}.service")}
    changed = [unit for unit in units if not (UNITS / unit).exists() or (UNITS / unit).read_bytes() != units[unit]]
    for unit in changed:
        write_atomically(UNITS / unit, units[unit])
    systemctl("daemon-reload")
    if f"{name}.socket" in changed:  # systemd can't open it again while its service holds it
        systemctl("stop", f"{name}.service")
        systemctl("restart", f"{name}.socket")
    systemctl("enable", "--quiet", f"{name}.socket", f"{name}.service")
    systemctl("start", f"{name}.socket")
    systemctl("restart", f"{name}.service")
    update_record(deployment, started=timestamp())


def activate(node: Deployments, args: dict[str, Any], *, check: bool = False) -> bool:
    """Make a deployment of next/ active; return whether that is necessary."""
    if not node.outdated():
        return False
    record = read_record(node.current)
    unchanged = node.current is not None and not differing(read_files(node.next), read_files(node.current))
    if unchanged and record.get("started") and record["state"] == "new":
        return False  # an interrupted run has started it; only its health check is missing
    if not check:
        switch_to(node, node.create(args["id"], args["by"]), args["name"])
    return True


def restore(node: Deployments, args: dict[str, Any]) -> bool:
    """Make the last good deployment active; return whether the app was switched.

    Raises DeploymentError if the node has no good deployment.
    """
    record = read_record(node.current)
    if record.get("state") == "good" and record.get("started"):
        return False
    good = node.current if record.get("state") == "good" else node.last_good()
    if good is None:
        raise DeploymentError("there is no earlier deployment on this node that was good")
    switch_to(node, good, args["name"])
    return True


def mark(node: Deployments, args: dict[str, Any]) -> bool:
    """Record that a deployment is good, bad or rolled back; return whether that changed its record."""
    state = args["state"]
    if state == "rolled_back":
        # The newest: all() begins with it.
        deployment = next((path for path in node.all() if read_record(path)["release"] == args["release"]), None)
    else:
        deployment = node.current
    before = read_record(deployment).get("state")
    # A failure before the switch leaves the last good deployment active, which stays good.
    if deployment is None or before in (None, state) or (state, before) == ("bad", "good"):
        return False
    reason = {} if state == "rolled_back" else {"reason": args["reason"]}
    update_record(deployment, state=state, marked=timestamp(), marked_by=args["by"], **reason)
    return True


def wanted_files(args: dict[str, Any]) -> Files:
    """Return the files to prepare. Raises DeploymentError if a Python file doesn't compile."""
    files: Files = {"release": Path(args["release"])}
    for name, content in args["files"].items():
        if name.endswith(".py"):
            try:
                compile(content, name, "exec")
            except SyntaxError as error:
                raise DeploymentError(f"{name}, line {error.lineno}: {error.msg}") from error
        files[name] = (str(content).encode(), 0o644)
    return files | {name: (str(content).encode(), 0o600) for name, content in args["secret_files"].items()}


def diff(before: Files, after: Files) -> list[dict[str, str]]:
    """Return the differences in Ansible's format, without the content of files that only root may read."""
    entries = []
    for name in differing(before, after):
        old, new = before.get(name), after.get(name)
        if any(isinstance(each, tuple) and not each[1] & 0o004 for each in (old, new)):
            entries.append({"prepared": f"{name}: the secrets changed; they are not shown"})
        else:
            entries.append(text_diff(f"next/{name}", _text(old), _text(new)))
    return entries


def _text(file: tuple[bytes, int] | Path | None) -> str:
    if file is None:
        return ""
    return f"link to {file}\n" if isinstance(file, Path) else file[0].decode(errors="replace")


def apply(node: Deployments, args: dict[str, Any], check: bool) -> dict[str, Any]:
    """Do what the state requires and return the result; with `check`, change nothing."""
    state = args["state"]
    result: dict[str, Any] = {"changed": False, "removed": []}
    if state == "prepared":
        files = wanted_files(args)
        before = read_files(node.next)
        missing = not check and node.create_directories()
        if not check:
            node.prepare(files)
        result |= {"changed": missing or before != files, "diff": diff(before, files)}
        result["outdated"] = node.outdated(files)  # not of next/, which check mode did not write
    elif state == "active":
        result["changed"] = activate(node, args, check=check)
    elif not check and state == "pruned":
        result["removed"] = node.prune(args["keep"])
        result["changed"] = bool(result["removed"])
    elif not check and state == "restored":
        result["changed"] = restore(node, args)
    elif not check and state in ("good", "bad", "rolled_back"):
        result["changed"] = mark(node, args)
    report: dict[str, Any] = node.report()
    return report | result


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "required": True, "choices": STATES},
            "files": {"type": "dict", "default": {}},
            "secret_files": {"type": "dict", "default": {}, "no_log": True},
            "release": {"type": "str", "default": ""},
            "id": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "reads": {"type": "list", "elements": "path", "default": []},
            "keep": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)  # copies of secrets are readable by root alone from their first byte on
    module.run_command_environ_update = {"LC_ALL": "C"}
    root, name = Path(module.params["root"]), module.params["name"]
    try:
        node = Deployments(root, pending(module.run_command, app_units(root, name, module.params["reads"])))
        result = apply(node, module.params, module.check_mode)
    except (DeploymentError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
