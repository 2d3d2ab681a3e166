"""The Python of the documentation is part of the examples, which the integration tests run."""

import re
from textwrap import indent

import pytest
from lib.ansible_runs import ROOT

PAGES = {
    "README.md": "plain_flask.py",
    "docs/how-to/sessions-in-your-app.md": "plain_flask.py",
    "docs/how-to/flask-login.md": "flask_login_app.py",
    "docs/how-to/move-from-flask-session.md": "from_flask_session.py",
}


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_of_a_page_are_part_of_an_example(page: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    examples = [re.sub(r"\n\n+", "\n", path.read_text()) for path in ROOT.glob("examples/*.py")]
    for block in (re.sub(r"\n\n+", "\n", each) for each in blocks):
        shapes = [indent(block, " " * width) for width in (0, 4, 8)]
        assert any(shape in example for shape in shapes for example in examples), block


def test_every_example_is_named_by_a_page() -> None:
    named = {f"examples/{name}" for page, name in PAGES.items() if f"examples/{name}" in (ROOT / page).read_text()}
    assert named == {f"examples/{path.name}" for path in ROOT.glob("examples/*.py")}
