"""Figures as parts of a page: SVG that takes its colours from it, in the light, the dark, on paper.

A figure is drawn once, its text and its lines in two inks that no plot uses. In the page these
stand for the colours that its own text and lines have just then.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

INK, FAINT = "#010203", "#030201"
IN_PAGE = {
    INK: "currentColor",
    FAINT: "var(--line)",
    "#0072b2": "var(--blue)",  # lines of plots, which are to be brighter in the dark
    "#d55e00": "var(--orange)",
}
STYLE: dict[Any, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
    **dict.fromkeys(("grid.color", "legend.edgecolor"), FAINT),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "legend.facecolor"), "none"),
    "svg.hashsalt": "xpcnn",  # the same ids each time
    "svg.fonttype": "none",  # text stays text, in the page's font, which may have more letters
    "text.parse_math": False,  # a $ in the name of a class is a $
}
FULL = {"left": 0.0, "right": 1.0, "bottom": 0.0, "top": 1.0}
DPI = 120  # of pictures that are not kept pixel by pixel

LOCAL = re.compile(r"^#|(?<=url\(#)")  # what refers to an id
FONT = re.compile(r"font-family: [^;]*(; )?")


def figure(
    name: str,
    alt: str,
    size: tuple[float, float],
    draw: Callable[[Axes], Any],
    layout: Any = "constrained",
    interpolation: str = "none",
) -> Markup:
    """What `draw` draws into axes, as an SVG element for a page; `alt` tells what is to be seen.

    `name` sets the ids within apart from those of other figures, `size` is width and height in
    inches. `layout` and `interpolation` are Matplotlib's: without a layout the axes fill the
    figure, and "none" keeps the pixels of pictures, which takes little for small ones.

    Source: Matplotlib, https://matplotlib.org/stable/users/explain/customizing.html.
    """
    file = BytesIO()
    style = STYLE | {"image.interpolation": interpolation}
    # from the defaults on: a page does not depend on a reader's own settings
    with context(["default", style]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        drawn = Figure(size, layout=layout)
        draw(drawn.subplots(gridspec_kw=FULL))
        drawn.savefig(file, format="svg", transparent=True, dpi=DPI)
    root = ElementTree.fromstring(file.getvalue())
    for element in root.iter():
        _settle(element, f"{name}-")
    told = {"role": "img", "aria-label": alt, "viewBox": root.attrib["viewBox"]}
    root.attrib = told | {"style": f"width: {size[0]:g}in"}
    return Markup(ElementTree.tostring(root, "unicode"))


def _settle(element: ElementTree.Element, prefix: str) -> None:
    """Let an element of a file be one of the page: no namespaces, ids and fonts of its own."""
    for inner in list(element):
        if inner.tag.endswith(("}metadata", "}style")):
            element.remove(inner)
    element.tag = _bare(element.tag)
    attributes = {_bare(name): value for name, value in element.attrib.items()}
    for name, value in attributes.items():
        attributes[name] = _in_page(name, value, prefix)
    element.attrib = attributes


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def _in_page(attribute: str, value: str, prefix: str) -> str:
    if attribute == "id":
        return prefix + value
    if attribute == "style":
        value = FONT.sub("", value)
        for ink, meant in IN_PAGE.items():
            value = value.replace(ink, meant)
    return LOCAL.sub(rf"\g<0>{prefix}", value)
