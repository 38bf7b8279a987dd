"""The examples in the README and in docs/ run as they stand, and what pages name is there.

The ```python blocks of a page run in order, in one namespace, in an empty folder. A block of
`>>>` lines is held to the output it shows.
"""

from __future__ import annotations

import ast
import doctest
import re
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TEXTS = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])
TEXTS = [page for page in TEXTS if "_build" not in page.parts]

FENCE = re.compile(r"^(```+)(?!\{).*?^\1$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(`+).+?\1")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"  #.*")
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

PAGES = [page for page in TEXTS if BLOCK.search(page.read_text(encoding="utf-8"))]
EXTRAS = {"import onnx": "onnx", "from onnx": "onnx", "plots": "matplotlib", "import cv2": "cv2"}
"""What a page's examples need beyond xpcnn, by what is to be found in them."""


def name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_examples(page, tmp_path, monkeypatch):
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    for words, module in EXTRAS.items():
        if any(words in block[1] for block in blocks):
            pytest.importorskip(module, reason=f"this page's examples need {module}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPCNN_DEVICE", raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "example"}
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        run = run_session if block[1].startswith(">>>") else run_script
        run(block[1], page, line, namespace)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


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
        'python -m pip install ".[plots]" && xpcnn train',
        "python -m pip install nox && nox",
    ]


# ---- translations -------------------------------------------------------------------------------

TRANSLATED = sorted(DOCS.glob("zh/*.md"))


@pytest.mark.parametrize("page", TRANSLATED, ids=name)
def test_a_translation_has_the_original_s_code(page):
    original = DOCS / page.name
    assert len(TRANSLATED) == 2
    assert code(page) == code(original)
    assert f"](zh/{page.name})" in original.read_text(encoding="utf-8")
    assert f"](../{page.name})" in page.read_text(encoding="utf-8")


def code(page):
    """A page's blocks of code, without comments, which are translated."""
    blocks = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [COMMENT.sub("", block[0]) for block in blocks]


# ---- links --------------------------------------------------------------------------------------

LINK = re.compile(r"\]\(([^)\s]+)\)|^:(?:link|img-top): (\S+)$", re.MULTILINE)
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"/images/(?:thumb/)?sphx_glr_(\w+)_(?:\d{3}|thumb)\.png$")
HEADING = re.compile(r"^#{1,3} (.+)$", re.MULTILINE)  # to the depth that gets anchors


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_links_lead_somewhere(page):
    text = INLINE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    links = [link or document for link, document in LINK.findall(text)]
    links += [line for tree in TREE.findall(text) for line in tree.split("\n") if named(line)]
    broken = [link for link in links if "://" not in link and not leads(page, link)]
    assert not broken


def named(line):
    return line and not line.startswith(":")


def leads(page, link):
    """Whether a link leads to a file, or to one that the gallery makes, and to a heading in it."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if source(target):
        return not anchor
    target = target if target.is_file() else target.with_suffix(".md")
    return target.is_file() and (not anchor or anchor in anchors(target))


def source(target):
    """The file of which sphinx-gallery makes this page or figure, if it is one of its own."""
    target = Path(FIGURE.sub(r"/\1", target.as_posix()))
    if not target.is_relative_to(DOCS) or target.suffix not in ("", ".rst"):
        return None
    place = DOCS / "gallery" / target.relative_to(DOCS)
    header = place.with_name("GALLERY_HEADER.rst")
    found = header if place.stem == "index" else place.with_suffix(".py")
    return found if header.is_file() and found.is_file() else None


@cache
def anchors(page):
    """The anchors of a page's headings, as MyST and GitHub make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = (title.replace("`", "").strip().lower() for title in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def test_every_page_is_in_a_table_of_contents():
    listed = {
        (page.parent / line).resolve()
        for page in TEXTS
        for tree in TREE.findall(page.read_text(encoding="utf-8"))
        for line in filter(named, tree.split("\n"))
    }
    pages = {page.with_suffix("") for page in TEXTS if page.is_relative_to(DOCS)}
    assert pages - listed == {DOCS / "index"}


# ---- the worked examples ------------------------------------------------------------------------

ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (DOCS / "seeds.md").read_text(encoding="utf-8").split("\n")
    if re.match(r"\| \d+ \|", line)
]


def test_every_worked_example_is_in_the_table():
    assert [int(number) for number, *_ in ROWS] == list(range(1, 20))
    assert {len(row) for row in ROWS} == {6}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"row {row[0]}")
def test_a_worked_example_has_its_pages_figures_and_tests(row):
    number, what, pages, figures, tests, _ = row
    sources = [source(DOCS / link) for link in re.findall(r"\]\((\S+)\)", pages)]
    assert what and sources and all(sources)
    assert set(re.findall(r'"(.+?)"', figures)) <= set().union(*map(sections, sources))
    patterns = re.findall(r"(?:`(\S+\.py)` )?`(test_\w+\*?)`", tests)
    assert f"test_row_{int(number):02}_*" in {pattern for _, pattern in patterns}
    for file, pattern in patterns:
        found = named_tests(ROOT / "tests" / (file or "test_seeds.py"))
        assert [test for test in found if fnmatch(test, pattern)], pattern


def sections(program):
    """The titles of the sections of a page that sphinx-gallery makes."""
    titles = re.findall(r"^# (.+)\n# -+$", program.read_text(encoding="utf-8"), re.MULTILINE)
    return {title.replace("*", "") for title in titles}


@cache
def named_tests(file):
    """The names of the tests in a file, which need not be imported for it."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    functions = (node.name for node in nodes if isinstance(node, ast.FunctionDef))
    return [function for function in functions if function.startswith("test_")]
