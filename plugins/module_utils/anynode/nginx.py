"""nginx on a balancer: the state of drained nodes and of maintenance mode, and the installation of tested files."""

import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from ansible.module_utils.anynode.files import write_atomically

CONFIG = Path("/etc/nginx")
STATE = Path("/var/lib/anynode")
# A line of upstream.conf. The part after the name is the reason, which only the version before upstream.json wrote.
SERVER_LINE = re.compile(
    r"server (?P<address>\S+) (?P<server_options>.*?)(?: max_fails=0)?(?P<down> down)?;"
    r" +# (?P<name>\S+)(?: out: (?P<reason>\{.*\}))?"
)
IGNORED_LINE = re.compile(r"(#.*|server \S+ max_fails=0 backup;)?")
RENAMED_KEYS = {"why": "reason", "run": "deployment"}
RENAMED_KINDS = {"run": "deployment"}


class NginxError(Exception):
    """nginx could not be changed or queried. The message names the cause and the remedy."""


class Server(TypedDict):
    """An app node behind the balancer: `host:port`, and the reason if the node is drained."""

    address: str
    drained: dict[str, Any] | None


class Upstream(TypedDict):
    """The content of upstream.json: the app nodes by name, and nginx's parameters of each."""

    nodes: dict[str, Server]
    server_options: str


class File(NamedTuple):
    """A file to install."""

    path: Path
    content: str
    mode: int = 0o644


def run(*command: str) -> tuple[int, str]:
    """Run a command; return its exit status, 127 if it isn't installed, and its output."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError as error:
        return 127, str(error)
    return done.returncode, done.stdout


def read(path: Path) -> str | None:
    """Return the file's text, or None if the file doesn't exist."""
    return path.read_text() if path.exists() else None


def dump(value: Any) -> str:
    """Return the JSON text of a state file."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def is_outdated(file: File) -> bool:
    """Return whether the file on disk has another content or mode, or doesn't exist."""
    return read(file.path) != file.content or stat.S_IMODE(file.path.stat().st_mode) != file.mode


def install(files: list[File]) -> None:
    """Replace the files together. Raises NginxError, with all files as before, if nginx rejects the configuration."""
    before = [(file, read(file.path)) for file in files]
    for file in files:
        file.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(file.path, file.content, file.mode)
    status, output = run("/usr/sbin/nginx", "-t")
    if status:
        for file, content in before:
            if content is None:
                file.path.unlink()
            else:
                write_atomically(file.path, content, file.mode)
        names = ", ".join(str(file.path) for file in files)
        raise NginxError(f"nginx rejects the configuration with the new {names}; the old files are back. {output}")


def read_upstream() -> Upstream:
    """Return the app nodes behind this balancer, from upstream.json or else from upstream.conf. Raises NginxError."""
    text = read(STATE / "upstream.json")
    if text is not None:
        state: Upstream = _decode(text, STATE / "upstream.json")
        return state
    return migrate_upstream(read(CONFIG / "upstream.conf") or "")


def migrate_upstream(text: str) -> Upstream:
    """Return the state that an upstream.conf shows which was written before there was an upstream.json.

    Raises NginxError if a line was not written by this project.
    """
    state: Upstream = {"nodes": {}, "server_options": ""}
    for line in text.splitlines():
        found = SERVER_LINE.fullmatch(line.strip())
        if found:
            reason = _rename(json.loads(found["reason"] or "{}")) if found["down"] else None
            state["nodes"][found["name"]] = {"address": found["address"], "drained": reason}
            state["server_options"] = found["server_options"]
        elif not IGNORED_LINE.fullmatch(line.strip()):
            raise NginxError(
                f"{CONFIG}/upstream.conf contains a line that Anynode did not write: {line.strip()}"
                " Remove the line and run site.yml."
            )
    return state


def read_maintenance() -> dict[str, Any] | None:
    """Return the reason (by, since, reason) if maintenance mode is on, else None. Raises NginxError."""
    text = read(STATE / "maintenance.json")
    if text is not None:
        reason: dict[str, Any] | None = _decode(text, STATE / "maintenance.json")
        return reason
    # The version before maintenance.json kept the reason in a comment.
    found = re.search(r"^# on: (.*)$", read(CONFIG / "maintenance.conf") or "", re.MULTILINE)
    return _rename(json.loads(found[1])) if found else None


def _decode(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise NginxError(f"{path} is not valid JSON: {error}. Fix the file, or remove it and run site.yml.") from error


def _rename(reason: dict[str, Any]) -> dict[str, Any]:
    """Return the reason with today's names of its keys and kinds."""
    renamed = {RENAMED_KEYS.get(key, key): value for key, value in reason.items()}
    return renamed | ({"kind": RENAMED_KINDS.get(renamed["kind"], renamed["kind"])} if "kind" in renamed else {})
