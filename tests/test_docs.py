"""The examples in the README and in docs/ run as they stand.

The ```python blocks of a page run in order, in one namespace, in an empty folder. A block of
`>>>` lines is held to the output it shows.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    if BLOCK.search(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPCNN_DEVICE", raising=False)
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": "example"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        run = run_session if block[1].startswith(">>>") else run_script
        run(block[1], page, line, namespace)


def run_script(code, page, line, namespace):
    # the empty lines make tracebacks tell the page's own line numbers
    exec(compile("\n" * line + code, page, "exec"), namespace)


def run_session(code, page, line, namespace):
    test = doctest.DocTestParser().get_doctest(code, namespace, page.name, str(page), line)
    report = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)
    namespace.update(test.globs)


def test_the_readme_starts_with_the_two_commands():
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert blocks[0].splitlines() == [
        "python -m pip install . && xpcnn train",
        "python -m pip install nox && nox",
    ]
