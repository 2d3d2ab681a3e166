"""Old names are refused with the new names, and the changelog lists them."""

import subprocess

import pytest
from ansible.module_utils.anynode import renamed
from lib.ansible_runs import ROOT

ALL = (
    renamed.OPTIONS
    | renamed.EXTRA_VARIABLES
    | renamed.TAGS
    | renamed.PLAYBOOKS
    | {f"make {old}": f"make {new}" for old, new in renamed.MAKE_TARGETS.items()}
)


@pytest.mark.parametrize(("old", "new"), ALL.items())
def test_the_changelog_lists_a_renamed_name(old: str, new: str) -> None:
    """Both names in one line, as `old` and `new`."""
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert [line for line in lines if f"`{old}`" in line and f"`{new}`" in line], f"`{old}`: `{new}`"


@pytest.mark.parametrize(("old", "new"), renamed.MAKE_TARGETS.items())
def test_a_renamed_make_target_is_refused_with_its_new_name(old: str, new: str) -> None:
    done = subprocess.run(["make", old], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"make {old} was renamed: use make {new}. Nothing was changed." in done.stderr
    assert f"\n{new}: " in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("old", [*renamed.OPTIONS, *renamed.PLAYBOOKS, *renamed.TAGS])
def test_no_file_of_the_product_uses_an_old_name(old: str) -> None:
    text = f"playbooks/{old}" if old.endswith(".yml") and not old.startswith("playbooks/") else old
    pattern = rf"tags: .*\b{old}\b" if old in renamed.TAGS else rf"\b{text}\b"
    files = ["roles", "playbooks", "plugins", "inventory", "molecule", "scripts", "site.yml", "Makefile"]
    # The glossary lists the playbooks that refuse the old names, to skip them.
    tables = ["plugins/module_utils/anynode/renamed.py", "scripts/glossary.yml"]
    without = [f":!{path}" for path in [*tables, *renamed.PLAYBOOKS]]
    done = subprocess.run(
        ["git", "grep", "-lP", pattern, "--", *files, *without], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
