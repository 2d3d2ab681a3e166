#!/usr/bin/python
"""Puts a release and its settings, together, in the place of those that run; or the last good ones back."""

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_deployment
short_description: what an app node runs, what it ran before, and what it should run
description:
  - A deployment is a directory C(deployments/<run>) with a link to a release, the settings and the units; C(current)
    links to the one that runs. So release and settings change in one rename, and go back in one.
  - C(next/) holds what the node should run. C(compared) tells whether that is what runs and was seen to work.
options:
  root: {type: path, required: true, description: directory of the releases and deployments}
  name: {type: str, required: true, description: name of the units}
  state:
    type: str
    required: true
    choices: [compared, switched, restored, good, bad, rolled_back, pruned]
    description:
      - C(switched) makes a deployment of C(next/) and restarts the app; C(restored) does that with the last good one.
      - C(good) and C(bad) mark the current deployment, C(rolled_back) the newest one of C(release); only a good one is
        ever gone back to.
      - C(pruned) removes old deployments and releases, and from those that stay all secrets but the current ones.
  release: {type: str, default: "", description: id of the release that was rolled back}
  run: {type: str, default: "", description: id of the run, which names the deployment}
  by: {type: str, default: "", description: who runs it, from where}
  reason: {type: str, default: "", description: what is wrong with a deployment that is not good}
  keep: {type: int, default: 5, description: deployments and releases that stay}
"""

SECRETS = "secrets.env"


class Refused(Exception):
    """Nothing was changed; the message names the culprit and the remedy."""


def read(deployment):
    """Return what is known of a deployment, {} if it is none."""
    try:
        return json.loads((deployment / "deployment.json").read_text()) if deployment else {}
    except (OSError, ValueError):
        return {}


def record(deployment, **changes):
    """Change what is known of a deployment, in one rename."""
    partial = deployment / "deployment.json.partial"
    partial.write_text(json.dumps(read(deployment) | changes, indent=1, sort_keys=True) + "\n")
    partial.rename(deployment / "deployment.json")


def link(path, target):
    """Let a link point elsewhere, in one rename."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.rename(path)


def now():
    """Return the time as people and programs can read it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Node:
    """The deployments on one node."""

    def __init__(self, root):
        self.root = Path(root)
        self.next = self.root / "next"
        self.link = self.root / "current"

    @property
    def current(self):
        """The deployment that runs, or None."""
        deployment = self.link.resolve()
        return deployment if deployment.parent == self.root / "deployments" and deployment.is_dir() else None

    def deployments(self):
        """All whole deployments, the newest first."""
        found = [path for path in (self.root / "deployments").glob("*") if path.suffix != ".partial" and read(path)]
        return sorted(found, key=lambda path: (read(path)["made"], path.name), reverse=True)

    def shunned(self):
        """The releases that were rolled back, with who said so."""
        latest = {}
        for path in reversed(self.deployments()):
            told = read(path)
            if told["state"] in ("good", "rolled_back"):
                latest[told["release"]] = told
        return {name: told for name, told in latest.items() if told["state"] == "rolled_back"}

    def last_good(self, *, other_release=False):
        """The newest deployment that was seen to work and wasn't taken back, but for the current one; or None."""
        shunned = self.shunned()
        running = read(self.current).get("release")
        for path in self.deployments():
            told = read(path)
            if path == self.current or told["state"] != "good" or told["release"] in shunned:
                continue
            if other_release and told["release"] == running:
                continue
            if (path / "release").is_dir():
                return path
        return None

    def outdated(self):
        """Return why the node is not known to run what it should: texts, none if all is well."""
        told = read(self.current)
        if not told:
            return ["nothing runs yet"]
        why = [
            f"{path.name} changed" for path in sorted(self.next.iterdir()) if not same(path, self.current / path.name)
        ]
        if not told.get("started"):
            why.append("a run was cut off before the app was restarted")
        elif told["state"] != "good":
            why.append("a run was cut off before the app was seen to work")
        return why

    def make(self, run, by):
        """Make a deployment of next/ and return it."""
        if not (self.next / "release").is_dir():
            raise Refused(f"{(self.next / 'release').readlink()} is not on this node")
        deployment = self.root / "deployments" / run
        partial = deployment.with_name(run + ".partial")
        for path in (partial, deployment):
            if path.exists():
                shutil.rmtree(path)
        shutil.copytree(self.next, partial, symlinks=True)
        (partial / "deployment.env").write_text(f"APP_DEPLOYMENT={run}\n")
        record(partial, run=run, by=by, made=now(), release=release_id(self.next / "release"), state="new")
        partial.rename(deployment)
        return deployment

    def prune(self, keep):
        """Remove old deployments and releases. What runs, and what can be gone back to, stays; so do the newest.

        The mark of a release that was rolled back stays, too, though its release may go.
        """
        stay = {path for path in (self.current, self.last_good(), self.last_good(other_release=True)) if path}
        releases = sorted((self.root / "releases").iterdir(), key=lambda path: path.stat().st_ctime, reverse=True)
        kept = {(path / "release").resolve() for path in stay} | set(releases[:keep])
        shunned = {told["run"] for told in self.shunned().values()}
        marks = {path for path in self.deployments() if path.name in shunned}
        gone = [path for path in self.deployments()[keep:] if path not in stay | marks]
        gone += (self.root / "deployments").glob("*.partial")
        gone += [path for path in releases if path.resolve() not in kept]
        for path in gone:
            shutil.rmtree(path)
        return [path.name for path in gone] + [f"{path.name}'s secrets" for path in self.refresh_secrets()]

    def refresh_secrets(self):
        """Give earlier deployments the secrets of the current one: theirs may be worth nothing by now, or known."""
        now_good = self.current / SECRETS
        if not now_good.exists():
            return []
        old = [path for path in self.deployments() if path != self.current and not same(path / SECRETS, now_good)]
        for path in old:
            partial = path / f"{SECRETS}.partial"
            shutil.copy(now_good, partial)
            partial.rename(path / SECRETS)
        return old


def release_id(path):
    """Return the id of the release that a link leads to: its name without the node's Python."""
    return re.sub(r"-py[0-9.]+$", "", path.readlink().name)


def same(one, other):
    """Tell whether two paths have the same content, mode, and, for links, target."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.exists() and one.read_bytes() == other.read_bytes() and one.stat().st_mode == other.stat().st_mode


def systemctl(*arguments):
    """Run systemctl; Refused with its words if it fails."""
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")


def run_deployment(node, deployment, name):
    """Make a deployment the current one and restart the app with its units. The socket stays open if it can."""
    record(deployment, started=None)  # if this is cut off, the next run sees it
    link(node.link, f"deployments/{deployment.name}")
    units = Path("/etc/systemd/system")
    differ = [unit for unit in (f"{name}.socket", f"{name}.service") if not same(deployment / unit, units / unit)]
    for unit in differ:
        partial = units / f".{unit}.partial"
        shutil.copy(deployment / unit, partial)
        partial.rename(units / unit)
    systemctl("daemon-reload")
    if f"{name}.socket" in differ:  # can't be opened anew while its service holds it
        systemctl("stop", f"{name}.service")
        systemctl("restart", f"{name}.socket")
    systemctl("enable", "--quiet", f"{name}.socket", f"{name}.service")
    systemctl("start", f"{name}.socket")
    systemctl("restart", f"{name}.service")
    record(deployment, started=now())


def act(node, args):
    """Do what the state asks for; return whether that changed something."""
    if args["state"] == "switched":
        if not node.outdated():
            return False
        told = read(node.current)
        same_again = told and all(same(path, node.current / path.name) for path in node.next.iterdir())
        if same_again and told.get("started") and told["state"] == "new":
            return False  # what runs is what should run, only nobody has seen it work yet
        run_deployment(node, node.make(args["run"], args["by"]), args["name"])
    elif args["state"] == "restored":
        told = read(node.current)
        if told.get("state") == "good" and told.get("started"):
            return False
        good = node.current if told.get("state") == "good" else node.last_good()
        if good is None:
            raise Refused("there is no earlier deployment on this node that was good")
        run_deployment(node, good, args["name"])
    elif args["state"] == "rolled_back":
        of_it = [path for path in node.deployments() if read(path)["release"] == args["release"]]
        if not of_it or read(of_it[0])["state"] == "rolled_back":
            return False
        record(of_it[0], state="rolled_back", marked=now(), marked_by=args["by"])
    elif args["state"] in ("good", "bad"):
        before = read(node.current).get("state")
        if before in (None, args["state"]) or (args["state"], before) == ("bad", "good"):
            return False  # what was good is not to blame for what failed before it was replaced
        record(node.current, state=args["state"], reason=args["reason"], marked=now(), marked_by=args["by"])
    return args["state"] != "compared"


def main():
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "required": True,
                "choices": ["compared", "switched", "restored", "good", "bad", "rolled_back", "pruned"],
            },
            "release": {"type": "str", "default": ""},
            "run": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    args = module.params
    node = Node(args["root"])
    gone = []
    os.umask(0o077)  # copies of secrets are for root alone from their first byte on
    try:
        if module.check_mode:
            changed = args["state"] == "switched" and bool(node.outdated())
        elif args["state"] == "pruned":
            gone = node.prune(args["keep"])
            changed = bool(gone)
        else:
            changed = act(node, args)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    other = node.last_good(other_release=True)
    module.exit_json(
        changed=changed,
        gone=gone,
        outdated=node.outdated() if node.next.is_dir() else ["nothing was prepared"],
        current=read(node.current),
        last_good_release=read(other).get("release"),
        rolled_back=node.shunned(),
    )


if __name__ == "__main__":
    main()
