"""The note that a visitor may keep in the session."""

from flask import abort, session

MAX_CHARACTERS = 4096


def keep_note(text: str) -> None:
    """Put the note into the session; 413 if it is too long."""
    if len(text) > MAX_CHARACTERS:
        abort(413, f"The note has {len(text)} characters, {MAX_CHARACTERS} are allowed. The old one was kept.")
    session["note"] = text
