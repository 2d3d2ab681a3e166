"""The deployments on an app node: directories with a release, its settings and units, and a record of their state."""

import os
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.anynode.files import read_json, write_atomically, write_json

SECRETS = "secrets.env"
RECORD = "deployment.json"
# Written at the deployment itself, so not among the files that are prepared.
OWN_FILES = (RECORD, "deployment.env")

Record = dict[str, Any]
# By name: content and mode of a file, target of a link.
Files = dict[str, tuple[bytes, int] | Path]


class DeploymentError(Exception):
    """A deployment isn't possible and nothing was changed, or systemd refused; the message has the cause."""


def read_record(deployment: Path | None) -> Record:
    """Return the record of a deployment, {} if there is none."""
    found = read_json(deployment / RECORD, {}) if deployment else {}
    record = dict(found) if isinstance(found, dict) else {}
    for old, new in (("run", "id"), ("why", "reason")):  # names of version 0.1
        if old in record:
            record[new] = record.pop(old)
    return record


def update_record(deployment: Path, **changes: Any) -> None:
    """Change values in the record of a deployment."""
    write_json(deployment / RECORD, read_record(deployment) | changes, 0o600)


def replace_link(path: Path, target: Path | str) -> None:
    """Create a symbolic link, or replace it in one rename."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.rename(path)


def timestamp() -> str:
    """Return the time in UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def release_id(link: Path) -> str:
    """Return the id of the release that a link leads to: the name of its directory without the node's Python."""
    return re.sub(r"-py[0-9.]+$", "", link.readlink().name)


def read_files(directory: Path | None) -> Files:
    """Return the files and links of next/ or of a deployment, without those that belong to the deployment itself."""
    paths = [path for path in directory.glob("*") if path.is_symlink() or path.is_file()] if directory else []
    return {path.name: _read(path) for path in paths if path.name not in OWN_FILES}


def _read(path: Path) -> tuple[bytes, int] | Path:
    return path.readlink() if path.is_symlink() else (path.read_bytes(), path.stat().st_mode & 0o7777)


def differing(files: Files, others: Files) -> list[str]:
    """Return the names that have another content, mode or target, or exist on one side only."""
    return sorted(name for name in files.keys() | others.keys() if files.get(name) != others.get(name))


def app_units(root: Path, name: str, reads: Sequence[str]) -> list[dict[str, Any]]:
    """Return the unit of the app with the files that it reads at its start, for the functions in units.py.

    The list is empty if nothing is deployed yet. reads: files outside root.
    """
    if not (root / "current").exists():
        return []
    own = [path for path in (root / "current").glob("*") if path.name != RECORD and not path.is_symlink()]
    paths = [*map(str, own), f"/etc/systemd/system/{name}.service", *reads]
    return [{"name": f"{name}.service", "paths": paths, "since": "ExecMainStartTimestamp"}]


class Deployments:
    """The releases and deployments below a directory of a node.

    `releases/NAME` are whole releases, `incoming/` those that are being unpacked. `next/` has the files that the node
    should run, `deployments/ID` those of each deployment, and the link `current` leads to the active deployment.
    """

    def __init__(self, root: Path, unread: Sequence[str] = ()) -> None:
        """root: their directory. unread: changes of other files that the running app hasn't read, as texts."""
        self.root = root
        self.unread = unread
        self.next = root / "next"
        self.link = root / "current"

    @property
    def current(self) -> Path | None:
        """The active deployment, or None."""
        deployment = self.link.resolve()
        return deployment if deployment.parent == self.root / "deployments" and deployment.is_dir() else None

    def all(self) -> list[Path]:
        """Return the complete deployments, the newest first."""
        found = [path for path in (self.root / "deployments").glob("*") if path.suffix != ".partial"]
        records = {path: record for path in found if (record := read_record(path))}
        return sorted(records, key=lambda path: (records[path]["made"], path.name), reverse=True)

    def rolled_back(self) -> dict[str, Record]:
        """Return the record of the rollback of each release that was rolled back and not deployed again."""
        latest: dict[str, Record] = {}
        for path in reversed(self.all()):
            record = read_record(path)
            if record["state"] in ("good", "rolled_back"):
                latest[record["release"]] = record
        return {name: record for name, record in latest.items() if record["state"] == "rolled_back"}

    def last_good(self, *, other_release: bool = False) -> Path | None:
        """Return the newest good deployment other than the active deployment, None if there is none.

        Deployments of releases that were rolled back don't count, nor, with other_release, those of the active release.
        """
        rolled_back = self.rolled_back()
        running = read_record(self.current).get("release")
        for path in self.all():
            record = read_record(path)
            if path == self.current or record["state"] != "good" or record["release"] in rolled_back:
                continue
            if other_release and record["release"] == running:
                continue
            if (path / "release").is_dir():
                return path
        return None

    def outdated(self, files: Files | None = None) -> list[str]:
        """Return why the node needs a deployment; nothing if it runs these files and passed the health check.

        files: those that the node should run; the default are those of next/.
        """
        record = read_record(self.current)
        if not record:
            return ["nothing is deployed yet"]
        wanted = read_files(self.next) if files is None else files
        reasons = [f"{name} changed" for name in differing(wanted, read_files(self.current))]
        reasons += self.unread
        if not record.get("started"):
            reasons.append("a deployment was interrupted before the app was restarted")
        elif record["state"] != "good":
            reasons.append("a deployment was interrupted before the health check passed")
        return reasons

    def report(self) -> dict[str, Any]:
        """Return the state of the node as the modules report it."""
        return {
            "current": read_record(self.current),
            "outdated": self.outdated() if self.next.is_dir() else ["nothing is prepared yet"],
            "last_good_release": read_record(self.last_good(other_release=True)).get("release"),
            "rolled_back": self.rolled_back(),
            "releases": sorted(path.name for path in (self.root / "releases").glob("*")),
        }

    def create_directories(self) -> bool:
        """Create the directories, readable by everybody; return whether one was missing."""
        paths = [self.root / name for name in ("releases", "incoming", "deployments", "next")]
        missing = [path for path in paths if not path.is_dir()]
        umask = os.umask(0o022)
        for path in missing:
            path.mkdir(parents=True)
        os.umask(umask)
        return bool(missing)

    def prepare(self, files: Files) -> None:
        """Write the files that the node should run to next/, and remove all others there."""
        for name in differing(files, read_files(self.next)):
            path, wanted = self.next / name, files.get(name)
            if isinstance(wanted, Path):
                replace_link(path, wanted)
            elif wanted:
                write_atomically(path, *wanted)
            else:
                path.unlink()

    def create(self, identity: str, by: str) -> Path:
        """Create a deployment of the prepared files and return its directory. Raises DeploymentError."""
        if not (self.next / "release").is_dir():
            raise DeploymentError(f"{(self.next / 'release').readlink()} is not on this node")
        deployment = self.root / "deployments" / identity
        partial = deployment.with_name(identity + ".partial")
        for path in (partial, deployment):
            if path.exists():
                shutil.rmtree(path)
        shutil.copytree(self.next, partial, symlinks=True)
        write_atomically(partial / "deployment.env", f"APP_DEPLOYMENT={identity}\n", 0o600)
        release = release_id(self.next / "release")
        update_record(partial, id=identity, by=by, made=timestamp(), release=release, state="new")
        partial.rename(deployment)
        return deployment

    def prune(self, keep: int) -> list[str]:
        """Remove old deployments and releases, replace the secrets of the deployments that stay.

        Returns the names of the removed directories, and "ID's secrets" for each deployment with replaced secrets.

        The newest `keep` stay, and so do the active deployment and those that a rollback could activate, with their
        releases. The record of a rollback stays although its release may go.
        """
        stay = {path for path in (self.current, self.last_good(), self.last_good(other_release=True)) if path}
        releases = sorted((self.root / "releases").iterdir(), key=lambda path: path.stat().st_ctime, reverse=True)
        kept = {(path / "release").resolve() for path in stay} | set(releases[:keep])
        records = {record["id"] for record in self.rolled_back().values()}
        stay |= {path for path in self.all() if path.name in records}
        old = [path for path in self.all()[keep:] if path not in stay]
        old += (self.root / "deployments").glob("*.partial")
        old += [path for path in releases if path.resolve() not in kept]
        for path in old:
            shutil.rmtree(path)
        return [path.name for path in old] + [f"{path.name}'s secrets" for path in self._replace_secrets()]

    def _replace_secrets(self) -> list[Path]:
        """Give earlier deployments the secrets of the active one: theirs may be invalid by now, or known."""
        if self.current is None or not (self.current / SECRETS).exists():
            return []
        secrets = (self.current / SECRETS).read_bytes()
        old = [
            path for path in self.all() if path != self.current and read_files(path).get(SECRETS) != (secrets, 0o600)
        ]
        for path in old:
            write_atomically(path / SECRETS, secrets, 0o600)
        return old
