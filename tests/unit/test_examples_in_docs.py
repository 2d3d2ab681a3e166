"""The documentation and the examples belong together."""

import re
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/sessions-in-your-app.md"])
def test_python_blocks_of_docs_are_part_of_an_example(page) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    examples = [re.sub(r"\n\n+", "\n", path.read_text()) for path in ROOT.glob("examples/*.py")]
    for block in (re.sub(r"\n\n+", "\n", each) for each in blocks):
        shapes = [indent(block, " " * width) for width in (0, 4, 8)]
        assert any(shape in example for shape in shapes for example in examples), block


def test_the_docs_link_every_example() -> None:
    page = (ROOT / "docs/sessions-in-your-app.md").read_text()
    assert all(f"../examples/{path.name}" in page for path in ROOT.glob("examples/*.py"))
