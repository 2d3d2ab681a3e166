"""The page "When something goes wrong" quotes messages as they are."""

import re

import pytest
from lib.ansible_runs import ROOT

PAGE = (ROOT / "docs/how-to/troubleshooting.md").read_text()
# Those of a table's first column with at least two words; others are names.
QUOTED = sorted(
    {text for row in re.findall(r"(?m)^\|(.*?)\|", PAGE) for text in re.findall("`([^`]+)`", row) if " " in text}
)
FOLDERS = ("roles", "playbooks", "plugins", "app/src", "packages")


@pytest.fixture(scope="module")
def sources() -> str:
    """All sources as a single line; texts that are written in several parts are joined."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yml", ".j2"}]
    text = "\n".join(path.read_text() for path in files)
    return re.sub(r"\s+", " ", re.sub(r"[\"']\n\s*f?[\"']", "", text))


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) > 15


@pytest.mark.parametrize("text", QUOTED)
def test_a_quoted_message_exists(sources: str, text: str) -> None:
    assert text in sources
