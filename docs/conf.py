"""Sphinx configuration."""

from __future__ import annotations

import re

import xpcnn

project = "xpcnn"
author = "The xpcnn developers"
copyright = "2026, The xpcnn developers"
release = xpcnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "literal"
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_type_aliases = {"Array": "Array"}
autodoc_preserve_defaults = True

html_theme = "pydata_sphinx_theme"
html_title = "xpcnn"
html_sidebars = {  # pages without a section of their own
    page: []
    for page in (
        "quickstart",
        "training",
        "architecture",
        "semantics",
        "kernels",
        "contributing",
        "changelog",
    )
}
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}

CODE_OR_MARK = re.compile(r"(``.*?``|`.*?`|^ *>>>.*?(?:\n *\n|\Z))|([*_|])", re.M | re.S)


def escape_marks(app, what, name, obj, options, lines):
    """Docstrings are plain text with `code`: asterisks, underscores and bars are no markup."""
    text = CODE_OR_MARK.sub(lambda found: found[1] or "\\" + found[2], "\n".join(lines))
    lines[:] = text.split("\n")


def name_arrays(app, what, name, obj, options, signature, returns):
    """Unions hold Sphinx's stand-in for an alias: write the alias."""
    stand_in = "TypeAliasForwardRef('Array')"
    return [text and text.replace(stand_in, "Array") for text in (signature, returns)]


def setup(app):
    app.connect("autodoc-process-docstring", escape_marks)
    app.connect("autodoc-process-signature", name_arrays)
