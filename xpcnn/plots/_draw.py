"""What all plots share: arrays on the host, axes, panels inside them, pictures and colours.

Colours can be told apart by colour-blind eyes, and what is between them is even to all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._xp import to_numpy
from ..ops._op import widened

try:
    from matplotlib import pyplot as plt
    from matplotlib import rcParams
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager
    from matplotlib.image import AxesImage
    from matplotlib.transforms import Bbox
except ImportError as error:
    raise ImportError('plots need Matplotlib: pip install "xpcnn[plots]"') from error

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Of lines and classes. Source: Okabe & Ito, "Color universal design", 2008; without its black."""

GREY = "gray"
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
HEAT = "inferno"
"""Maps of pictures, of numbers from low to high, of signed ones round 0, and of what lies over a
picture."""

EASTERN = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "Malgun Gothic", "PingFang SC",
    "Hiragino Sans GB", "Arial Unicode MS",
)  # fmt: skip
"""Fonts with Chinese, Japanese or Korean letters, as systems have them. Of Noto's, which have the
letters of all three, Matplotlib may know the Japanese one alone."""

THIN = 12
"""A tile's pixels along its longer side, at least, beside which a line of one is thin."""

Room = tuple[float, float, float, float]
ROOM: Room = (0.05, 0.05, 0.05, 0.22)
"""Inches left free round a panel: left, right, below, and above, where its title stands."""


def host(call: str, name: str, x: Any, *layouts: str) -> np.ndarray:
    """An array of any library, or nested sequences, on the host: its axes are one of `layouts`.

    Raises ValueError for other axes and for empty ones, TypeError for what holds no numbers.

    >>> host("kernels", "weight", [[[[1.0]]]], "O C KH KW").shape
    (1, 1, 1, 1)
    """
    array = to_numpy(widened(x)) if hasattr(x, "shape") else np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{call}: {name} must hold numbers, not {array.dtype}")
    if array.ndim not in (len(layout.split()) for layout in layouts) or 0 in array.shape:
        told = " or ".join(f"({', '.join(layout.split())})" for layout in layouts)
        raise ValueError(f"{call}: {name} must be {told}, not empty; it is {array.shape}")
    return array


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The given axes, or those of a new figure of so many inches, laid out for square pixels."""
    return plt.subplots(figsize=(width, height), layout="compressed")[1] if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """The figure, also where the axes lie in a part of one."""
    figure: Any = ax.figure
    return getattr(figure, "figure", figure)


def panels(
    ax: Axes | None,
    n: int,
    columns: int | None = None,
    *,
    aspect: float = 1.0,
    inches: float = 1.2,
    room: Room = ROOM,
) -> tuple[Axes, list[Axes]]:
    """The axes and `n` panels inside them, row by row; each `aspect` times as high as it is wide.

    They fill the axes as they lie when drawn. Where none are given, those of a new figure are made,
    whose panels are `inches` wide. By default rows and columns make about a square.
    """
    columns = min(n, columns or math.ceil(math.sqrt(n * aspect)))
    rows, (left, right, below, above) = math.ceil(n / columns), room
    size = inches + left + right, inches * aspect + below + above
    ax = axes(ax, columns * size[0], rows * size[1])
    ax.set_axis_off()
    made = [ax.inset_axes((0.0, 0.0, 1.0, 1.0)) for _ in range(n)]
    for number, panel in enumerate(made):
        place = number // columns, number % columns
        panel.set_axes_locator(_locator(ax, place, (rows, columns), aspect, room))
    return ax, made


def _locator(
    ax: Axes, place: tuple[int, int], grid: tuple[int, int], aspect: float, room: Room
) -> Callable[[Any, Any], Bbox]:
    """What tells Matplotlib, when it draws, where in its figure a panel lies."""

    def locate(panel: Any, renderer: Any) -> Bbox:
        dpi, box = figure_of(ax).dpi, ax.bbox
        left, right, below, above = (dpi * inches for inches in room)
        (row, column), (rows, columns) = place, grid
        across, down = box.width / columns - left - right, box.height / rows - below - above
        width = max(1.0, min(across, down / aspect))
        height = width * aspect
        x = box.x0 + box.width / 2 + (column - columns / 2) * (width + left + right) + left
        y = box.y0 + box.height / 2 + (rows / 2 - row) * (height + below + above) - above - height
        return Bbox.from_bounds(x, y, width, height).transformed(
            panel.figure.transSubfigure.inverted()
        )

    return locate


def families() -> list[str]:
    """The fonts that are set, and for letters that these lack the eastern ones that are here."""
    here = fontManager.get_font_names()
    return [*rcParams["font.family"], *(name for name in EASTERN if name in here)]


def written() -> dict[str, Any]:
    """How names are written: in a font that has their letters, a $ as a $."""
    return {"family": families(), "parse_math": False}


def title(ax: Axes, text: str | None, **options: Any) -> None:
    """A small title, where there is any text."""
    if text:
        ax.set_title(text, **written() | {"fontsize": "small", "pad": 3.0} | options)


def show(ax: Axes, picture: np.ndarray, text: str | None = None, **options: Any) -> AxesImage:
    """A picture (H, W), (H, W, 3) or (H, W, 4) with square pixels, a small title and no ticks."""
    drawn = ax.imshow(picture, **{"cmap": GREY} | options)
    ax.set_xticks([])
    ax.set_yticks([])
    title(ax, text)
    return drawn


def scale(ax: Axes, drawn: AxesImage, label: str = "") -> None:
    """A slim bar of the picture's colours beside the axes."""
    bar = figure_of(ax).colorbar(drawn, ax=ax, fraction=0.05, pad=0.03)
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="small")


def pixels(call: str, name: str, image: Any) -> np.ndarray:
    """An image (C, H, W) of 1 or 3 channels, or (H, W), as (H, W) or (H, W, 3) in [0, 1].

    uint8 is divided by 255, and what goes beyond [0, 1] is scaled by its range. Raises what `host`
    does, and ValueError for another number of channels.

    >>> pixels("stages", "image", np.full((3, 1, 1), 255, np.uint8))
    array([[[1., 1., 1.]]], dtype=float32)
    """
    array = host(call, name, image, "C H W", "H W")
    if array.ndim == 3 and array.shape[0] not in (1, 3):
        raise ValueError(f"{call}: {name} must have 1 or 3 channels; it is {array.shape}")
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    low, high = span(array)
    if low >= 0.0 and high <= 1.0:
        return array.astype(np.float32)
    return ((array - low) / ((high - low) or 1.0)).astype(np.float32)


def span(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest finite value; 0 and 0 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def mosaic(tiles: np.ndarray, columns: int, fill: float = math.nan) -> np.ndarray:
    """Tiles (n, H, W, ...) in rows of so many, with lines of `fill` between them.

    Small tiles are enlarged, each number to a square, so that the lines are thin beside them.

    >>> mosaic(np.ones((3, 1, 12)), 2)[:, 10:15]
    array([[ 1.,  1., nan,  1.,  1.],
           [nan, nan, nan, nan, nan],
           [ 1.,  1., nan, nan, nan]])
    """
    zoom = math.ceil(THIN / max(tiles.shape[1:3]))
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    n, height, width, *rest = tiles.shape
    rows = math.ceil(n / columns)
    cells = np.full((rows * columns, height + 1, width + 1, *rest), fill, tiles.dtype)
    cells[:n, :-1, :-1] = tiles
    grid = cells.reshape(rows, columns, height + 1, width + 1, *rest).swapaxes(1, 2)
    return grid.reshape(rows * (height + 1), columns * (width + 1), *rest)[:-1, :-1]


def names_of(call: str, names: Sequence[str] | None, count: int) -> list[str]:
    """The classes' names, by default their numbers; ValueError for another number of names."""
    if names is not None and len(names) != count:
        raise ValueError(f"{call}: there are {count} classes and {len(names)} names; give as many")
    return list(map(str, range(count) if names is None else names))
