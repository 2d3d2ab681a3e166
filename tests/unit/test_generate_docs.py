"""scripts/generate_docs.py renders argument specs, module documentation and Makefile, and detects stale files."""

from pathlib import Path

import pytest

from scripts import generate_docs
from scripts.generate_docs import DocumentationError, markdown, sentence

SPECS = """---
argument_specs:
  main:
    short_description: Redis as the session store
    description: [See C(redis.conf)., A second paragraph.]
    options:
      redis_port: {type: int, required: true, description: TCP port}
      redis_mode: {type: str, default: a|b, choices: [a|b, c], description: "C(a|b) or C(c)"}
      redis_address: {type: str, required: true, description: address}
      redis_users: {type: list, elements: str, default: [], description: names}
      redis_password: {type: str, required: true, no_log: true, description: password of the app}
  flush:
    short_description: Remove all sessions
    options:
      redis_confirm: {type: bool, description: [whether to do it, really]}
"""
TASKS = """---
- name: Create the container
  community.docker.docker_container:
    name: a
- name: Query Redis
  redis_status:
    port: 1
    redis_validate: an option, although a module has this name
  when: true
- name: Copy a file
  ansible.builtin.copy: {content: "", dest: /a}
"""
MODULE = '''#!/usr/bin/python
"""A module."""
DOCUMENTATION = r"""
module: redis_status
short_description: reports the status of Redis
description: [Read-only.]
options:
  port: {type: int, required: true, description: TCP port}
"""
EXAMPLES = r"""
---
- name: Query Redis
  redis_status: {port: 6379}
"""
RETURN = r"""
users:
  description: names of ACL users
  type: list
  elements: str
"""
'''
MAKEFILE = """help: ## list the targets
\t@true

unit: .venv ## run the unit tests | seconds
\t@true

hidden: # not listed
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with a role, a module of each kind, a lookup plugin and a Makefile."""
    files = {
        "roles/redis/meta/argument_specs.yml": SPECS,
        "roles/redis/tasks/main.yml": TASKS,
        "roles/topology/defaults/main/redis.yml": 'redis_port: 6380\nredis_address: "{{ ansible_host }}"\n',
        "plugins/modules/redis_status.py": MODULE,
        "plugins/action/redis_validate.py": MODULE.replace("redis_status", "redis_validate"),
        "plugins/lookup/password.py": MODULE.replace("redis_status", "password"),
        "Makefile": MAKEFILE,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def text_of(tree: Path, name: str) -> list[str]:
    """Return the lines of a generated file."""
    assert generate_docs.main([], tree) == 0
    return (tree / name).read_text().splitlines()


def test_options_have_type_default_and_description(tree: Path) -> None:
    lines = text_of(tree, "docs/reference/options.md")
    assert "## redis" in lines
    assert "Redis as the session store." in lines
    assert "See `redis.conf`." in lines
    assert "| `redis_port` | int | `6380` | TCP port. |" in lines
    assert "| `redis_mode` | str | `a\\|b` | `a\\|b` or `c`. One of `a\\|b`, `c`. |" in lines
    assert "| `redis_address` | str | computed by `topology` | Address. |" in lines
    assert "| `redis_users` | list of str | `[]` | Names. |" in lines
    assert "| `redis_password` | str | required | Password of the app. Secret: never logged. |" in lines
    assert "### redis: tasks_from flush" in lines
    assert "| `redis_confirm` | bool | none | Whether to do it. Really. |" in lines


def test_modules_have_options_examples_and_return_values(tree: Path) -> None:
    lines = text_of(tree, "docs/reference/modules.md")
    assert "## redis_status" in lines
    assert "| `port` | int | required | TCP port. |" in lines
    example = lines.index("```yaml")
    assert lines[example : example + 4] == ["```yaml", "- name: Query Redis", "  redis_status: {port: 6379}", "```"]
    assert "| `users` | list of str | always | Names of ACL users. |" in lines
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## redis_status", "## redis_validate", "## Lookup password"]


def test_the_readme_of_a_role_lists_options_and_dependencies(tree: Path) -> None:
    lines = text_of(tree, "roles/redis/README.md")
    assert lines[0] == "# redis"
    assert "| `redis_port` | int | `6380` | TCP port. |" in lines
    assert "- Collection `community.docker`" in lines
    assert "- Module [redis_status](../../docs/reference/modules.md#redis_status)" in lines
    assert not [line for line in lines if "builtin" in line]
    assert not [line for line in lines if "redis_validate" in line]


def test_make_targets_are_those_that_make_lists(tree: Path) -> None:
    rows = [line for line in text_of(tree, "docs/reference/make.md") if line.startswith("| `make")]
    assert rows == ["| `make help` | List the targets. |", "| `make unit` | Run the unit tests \\| seconds. |"]


def test_check_detects_stale_and_missing_files(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate_docs.main(["--check"], tree) == 1
    assert not (tree / "docs").exists()
    assert generate_docs.main([], tree) == 0
    assert generate_docs.main(["--check"], tree) == 0
    capsys.readouterr()
    (tree / "roles/redis/README.md").write_text("edited by hand\n")
    assert generate_docs.main(["--check"], tree) == 1
    assert capsys.readouterr().err == (
        "roles/redis/README.md is stale. Run scripts/generate_docs.py and commit the result.\n"
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("plugins/modules/redis_status.py", "[Read-only.]", "a: b: c", "DOCUMENTATION is no valid YAML"),
        ("plugins/modules/redis_status.py", "names of", "a: b: c", "RETURN is no valid YAML"),
        ("plugins/modules/redis_status.py", "short_description", "text", "DOCUMENTATION has no short_description"),
        ("roles/redis/meta/argument_specs.yml", "argument_specs:", "others:", "no argument specs"),
        ("roles/redis/meta/argument_specs.yml", "  main:", "  main: a: b", "mapping values are not allowed"),
    ],
)
def test_an_invalid_source_is_reported_with_its_path(
    tree: Path, name: str, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / name).write_text((tree / name).read_text().replace(old, new))
    assert generate_docs.main(["--check"], tree) == 1
    error = capsys.readouterr().err
    assert error.startswith(str(tree / name))
    assert message in error


def test_markup_of_ansible_becomes_markdown() -> None:
    assert markdown("C(a) I(b) B(c) M(d.e.f)\n  L(text, page.md) U(https://example.org) O(g) V(h) RV(i)") == (
        "`a` *b* **c** `d.e.f` [text](page.md) <https://example.org> `g` `h` `i`"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a port", "A port."), ("nginx is up", "nginx is up."), ("`a` b.", "`a` b."), ("really?", "Really?")],
)
def test_a_sentence_has_a_capital_letter_and_a_full_stop(text: str, expected: str) -> None:
    assert sentence(text) == expected


def test_no_module_is_left_undocumented(tree: Path) -> None:
    (tree / "plugins/modules/other.py").write_text('"""Nothing."""\n')
    with pytest.raises(DocumentationError, match="other.py: DOCUMENTATION has no short_description"):
        generate_docs.generated(tree)
