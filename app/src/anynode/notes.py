"""The note that a user may store in the session."""

from flask import abort, session

MAX_CHARACTERS = 4096


def save_note(text: str) -> None:
    """Store the note in the session. Aborts with 413 if it has more than MAX_CHARACTERS."""
    if len(text) > MAX_CHARACTERS:
        abort(413, f"The note has {len(text)} characters, {MAX_CHARACTERS} are allowed. It was not saved.")
    session["note"] = text
