"""Files that are replaced as a whole: a reader sees the old content or the new content, never a part of either."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file, or create it, in one rename.

    path: the file; its directory must exist. content: text is written as UTF-8. mode: permissions, which the file has
    from its first byte on, so a secret is never readable by others. Raises OSError; then the file is unchanged.
    """
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def read_json(path: Path, default: Any = None) -> Any:
    """Return the content of a JSON file, or `default` if the file doesn't exist or isn't valid JSON."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return default


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Replace a JSON file in one rename. Raises OSError, and TypeError if the value has no JSON form."""
    write_atomically(path, json.dumps(value, indent=1, sort_keys=True) + "\n", mode)
