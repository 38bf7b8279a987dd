"""Sphinx configuration."""

from __future__ import annotations

import html
import importlib
import re
import warnings

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

import xpcnn

project = "xpcnn"
author = "The xpcnn developers"
copyright = "2026, The xpcnn developers"
release = xpcnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery"]  # the gallery's pages are made of it
templates_path = ["_templates"]
default_role = "literal"
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_type_aliases = {"Array": "Array"}
autodoc_preserve_defaults = True

garments = xpcnn.data.find(
    xpcnn.data.SETS["fashion-mnist"]
)  # nothing is downloaded here

# a figure that is too small for what it shows, or lacks letters
warnings.filterwarnings("error", message="constrained_layout not applied|Glyph")

sphinx_gallery_conf = {
    "examples_dirs": ["gallery/learn", "gallery/examples"],
    "gallery_dirs": ["learn", "examples"],
    "within_subsection_order": "FileNameSortKey",
    # a script that does not match is shown, but not run
    "filename_pattern": r"\.py$" if garments else r"(?<!fashion_mnist)\.py$",
    "run_stale_examples": True,  # the same script may fail with another xpcnn
    "image_srcset": ["2x"],
    "ignore_repr_types": "matplotlib",
    "remove_config_comments": True,
    # what would differ from build to build, or say what no reader asks
    "min_reported_time": 3600,
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "xpcnn"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["xpcnn.css"]
html_copy_source = False
html_sidebars = {"*": []}  # pages without a section of their own
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 5,
    "navbar_end": ["language", "theme-switcher"],
    "secondary_sidebar_items": {
        "**": ["page-toc"],
        "seeds": [],
    },  # whose table takes the room
}

CODE_OR_MARK = re.compile(
    r"(``.*?``|`.*?`|^ *>>>.*?(?:\n *\n|\Z))|([*_|])", re.M | re.S
)


def escape_marks(app, what, name, obj, options, lines):
    """Docstrings are plain text with `code`: asterisks, underscores and bars are no markup."""
    text = CODE_OR_MARK.sub(lambda found: found[1] or "\\" + found[2], "\n".join(lines))
    lines[:] = text.split("\n")


def skip_fields(app, what, name, obj, skip, options):
    """A named tuple's fields stand in its signature, and its docstring tells what they are."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def name_arrays(app, what, name, obj, options, signature, returns):
    """Unions hold Sphinx's stand-in for an alias: write the alias."""
    stand_in = "TypeAliasForwardRef('Array')"
    return [text and text.replace(stand_in, "Array") for text in (signature, returns)]


def home(app, module, name):
    """Of a type alias, where it is named: what it stands for is `builtins`'s, without a page."""
    value = getattr(importlib.import_module(module), name, None)
    return module if getattr(value, "__module__", None) == "builtins" else None


def formula(translator, node):
    """Browsers draw MathML by themselves: no script, and none from the network."""
    code, block = node.astext(), isinstance(node, nodes.math_block)
    if block:  # whose equations are parted by empty lines
        code = "\\begin{aligned}" + "\\\\".join(code.split("\n\n")) + "\\end{aligned}"
    try:
        drawn = tex2mathml(code, as_block=block)
    except MathError as error:
        logging.getLogger(__name__).warning("%s", error, location=node)
        drawn = html.escape(code)
    translator.body.append(drawn)
    raise nodes.SkipNode


def drop_downloads(app, doctree):
    """The script and its notebook are enough: no note on them at the top, and no archive."""
    noise = {"sphx-glr-download-link-note", "sphx-glr-download-zip"}
    for node in list(doctree.findall(nodes.Element)):
        if noise.intersection(node.get("classes", ())):
            node.parent.remove(node)


def tell_language(app, pagename, templatename, context, doctree):
    """Pages under zh/ are Chinese; each links to itself, or the first, in the other language."""
    chinese = pagename.startswith("zh/")
    other = pagename.removeprefix("zh/") if chinese else f"zh/{pagename}"
    first = "index" if chinese else "zh/index"
    context["language"] = "zh-CN" if chinese else "en"
    context["in_other_language"] = other if other in app.env.found_docs else first


def setup(app):
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect(
        "doctree-read", drop_downloads, priority=400
    )  # before downloads are collected
    app.connect("html-page-context", tell_language)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", escape_marks)
    app.connect("autodoc-process-signature", name_arrays)
    app.connect("viewcode-follow-imported", home)
