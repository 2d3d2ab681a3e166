"""Files that are replaced as a whole: a reader sees the old content or the new content, never a part of either."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644, group: int = -1) -> None:
    """Replace a file, or create it, in one rename.

    path: the file; its directory must exist. content: text is written as UTF-8. mode, group: permissions and numeric
    group (-1: that of the process), which the file has from its first byte on, so a secret is never readable by others.
    Raises OSError; then the file is unchanged.
    """
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchown(file.fileno(), -1, group)
            os.fchmod(file.fileno(), mode)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def directives(text: str) -> list[str]:
    """Return the lines of a configuration file without comments and empty lines.

    A comment is a line whose first word is "#", ";" or "//"; apt has directives such as "#clear".
    """
    return [line for line in text.splitlines() if line.split(maxsplit=1)[:1] not in ([], ["#"], [";"], ["//"])]


def text_diff(path: str | Path, before: str, after: str) -> dict[str, str]:
    """Return the difference between two texts of a file in Ansible's format."""
    return {"before_header": str(path), "after_header": str(path), "before": before, "after": after}


def read_json(path: Path, default: Any = None) -> Any:
    """Return the content of a JSON file, or `default` if the file doesn't exist or isn't valid JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return default


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Replace a JSON file in one rename. Raises OSError, and TypeError if the value has no JSON form."""
    write_atomically(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode)
