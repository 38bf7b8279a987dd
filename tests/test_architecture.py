"""The house: imports run downwards, other libraries stay in their rooms, importing is light.

Imports are read from the sources, those inside functions and importlib's too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import xpcnn

PACKAGE = Path(xpcnn.__file__).parent
FILES = {
    ".".join(("xpcnn", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in PACKAGE.rglob("*.py")
}

FLOORS = (
    {"window", "_xp", "random", "_files", "_check"},
    {"engines"},
    {"ops"},
    {"layers"},
    {"models"},
    {"data", "optim", "io", "training", "inspection"},  # among them without going in circles
    {"cli", "plots", "report"},
)

ROOMS = {
    "array_api_compat": ("_xp",),
    "array_api_strict": ("_xp",),
    "cupy": ("_xp", "engines.cuda*", "engines.cudnn*", "training.parallel"),
    "cupyx": ("engines.cuda*", "engines.cudnn*", "training.parallel"),
    "numba": ("engines.numba*",),
    "llvmlite": ("engines.numba*",),
    "torch": ("_xp", "engines.torch*"),
    "jax": ("_xp", "engines.jax*"),
    "safetensors": ("io.*",),
    "onnx": ("io.onnx*",),
    "cv2": ("io.images",),
    "matplotlib": ("plots*", "report*"),
    "jinja2": ("report*",),
    "markupsafe": ("report*",),
    "filelock": ("data.download",),
    "platformdirs": ("data.local",),
    "scipy": ("data.svhn",),
    "mpi4py": ("training.parallel",),
    "tensorboardX": ("training.callbacks",),
    "typer": ("cli*",),
    "rich": ("cli*", "training.bar"),
    "numpy": ("*",),
}
"""Who may import what is neither xpcnn's nor Python's own. `_xp` asks the libraries for devices."""

NO_NUMPY = (
    "window", "engines.generic", "engines.settings", "engines._toom", "ops", "ops.*", "models",
    "models.*",
)  # fmt: skip
"""Integers only, or Array API code only."""

HELPERS = {"settings", "_kernels", "_lines", "_toom"}
"""What lies in engines/ and is none."""


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Dotted names of all that `source` imports, the source being that of `module`.

    `from a import b` is a.b where that is one of our modules, else a. Of a name made at run time,
    as in import_module(f"a.{b}"), the part that is known.
    """
    home = module if is_package else module.rpartition(".")[0]

    def absolute(name: str) -> str:
        dots = len(name) - len(name.lstrip("."))
        base = home.split(".")[: len(home.split(".")) - dots + 1] if dots else []
        return ".".join([*base, *filter(None, name.split("."))])

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""))
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield deeper if deeper in FILES else base
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            if called in ("import_module", "__import__"):
                name = node.args[0]
                name = name.values[0] if isinstance(name, ast.JoinedStr) else name
                assert isinstance(name, ast.Constant), f"{module}: {ast.unparse(node)}"
                yield absolute(name.value)


IMPORTS = {
    module: set(imports_of(path.read_text("utf-8"), module, path.name == "__init__.py"))
    for module, path in FILES.items()
}
OURS = [
    (module, name)
    for module, names in IMPORTS.items()
    for name in names
    if name.split(".")[0] == "xpcnn" and module != "xpcnn" and name != "xpcnn"
]
OTHERS = [
    (module.removeprefix("xpcnn."), name.split(".")[0])
    for module, names in IMPORTS.items()
    for name in names
    if name.split(".")[0] not in {"xpcnn", *sys.stdlib_module_names}
]


def part(module: str) -> str:
    """layers for xpcnn.layers.conv."""
    return module.split(".")[1]


def floor(module: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if part(module) in floor)


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import numpy as np, os.path", {"numpy", "os.path"}),
        ("from . import tree, Layer", {"xpcnn.layers.tree", "xpcnn.layers"}),
        ("from .. import ops\nfrom .._xp import Array", {"xpcnn.ops", "xpcnn._xp"}),
        ("def f():\n    from ..engines import conv", {"xpcnn.engines"}),
        ("importlib.import_module('cupy').cuda", {"cupy"}),
        ("import_module(f'array_api_compat.{name}')", {"array_api_compat"}),
        ("import_module(f'.{name}', __name__)", {"xpcnn.layers"}),
        ("__import__('torch')", {"torch"}),
        ("'import jax'  # import jax", set()),
    ],
)
def test_imports_are_found(source, expected):
    assert set(imports_of(source, "xpcnn.layers.conv")) == expected


def test_every_part_has_a_floor():
    parts = {module.split(".")[1] for module in FILES if module != "xpcnn"}
    assert parts <= set().union(*FLOORS)
    assert {"window", "_xp", "random", "engines", "ops", "layers", "models", "training"} <= parts


def test_imports_run_downwards_only():
    assert len(OURS) > 100
    upwards = {pair for pair in OURS if floor(pair[0]) < floor(pair[1])}
    assert not upwards


def test_no_part_imports_itself_through_another():
    graph = {part(module): set() for module, _ in OURS}
    for module, name in OURS:
        if part(module) != part(name):
            graph[part(module)].add(part(name))
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_layers_and_models_go_through_what_is_below_them():
    reached = {"layers": set(), "models": set()}
    for module, name in OURS:
        if part(module) in reached:
            reached[part(module)].add(part(name))
    assert "engines" not in reached["layers"]
    assert reached["models"] <= {"layers", "models"}


def test_an_engine_imports_no_engine_but_generic():
    """An engine of many modules is one engine."""

    def engine(module: str) -> str | None:
        parts = module.split(".")
        return parts[2] if parts[1:2] == ["engines"] and len(parts) > 2 else None

    found = {engine(module) for module in FILES} - {None} - HELPERS
    assert {"generic", "numpy", "numba", "torch", "jax"} <= found
    for module in FILES:
        if engine(module) in found:
            others = {engine(name) for name in IMPORTS[module]} & found
            assert others <= {"generic", engine(module)}, module


def test_other_libraries_stay_in_their_rooms():
    found = {library for _, library in OTHERS}
    assert {"numpy", "array_api_compat", "safetensors", "cv2", "typer", "rich"} <= found
    assert found <= ROOMS.keys()
    strays = {(m, lib) for m, lib in OTHERS if not any(fnmatch(m, room) for room in ROOMS[lib])}
    assert not strays


def test_what_needs_no_numpy_imports_none():
    users = {module for module, library in OTHERS if library == "numpy"}
    assert not {m for m in users if any(fnmatch(m, name) for name in NO_NUMPY)}


# ---- importing is light -------------------------------------------------------------------------

HEAVY = (
    "cupy", "numba", "torch", "jax", "cv2", "onnx", "matplotlib", "typer", "rich", "safetensors",
    "array_api_compat", "array_api_strict", "scipy", "sklearn", "PIL", "mpi4py", "tensorboardX",
    "filelock", "platformdirs", "jinja2", "markupsafe",
)  # fmt: skip
WORK = """
import numpy as np, xpcnn
from xpcnn import layers, models, ops, optim, random, training
for name in xpcnn.__all__:
    getattr(xpcnn, name)
x, w = np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3))
y, pull = xpcnn.vjp(ops.conv2d, x, w)
pull(y)
model, adam = models.convnet(), optim.Adam()
params, _ = model.init(random.key(0), (1, 8, 8))
images, labels = np.ones((2, 1, 8, 8), np.float32), np.asarray([0, 1])
state = adam.init(params)
training.train_step(model, adam, params, state, images, labels, key=random.key(1))
"""
ALLOWED = 30_000
"""Microseconds that `import xpcnn` may take beyond NumPy's own import."""


def run(*options: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, *options], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("code", ["import xpcnn", WORK], ids=["import", "work on NumPy arrays"])
def test_what_is_optional_is_not_loaded(code):
    """Save Numba, which computes on NumPy arrays where it is installed, and looks for SciPy."""
    loaded = run("-c", f"{code}\nimport sys\nprint(*sys.modules)").stdout.split()
    assert "xpcnn" in loaded
    heavy = {name.partition(".")[0] for name in loaded} & set(HEAVY)
    assert heavy <= ({"numba", "scipy"} if code == WORK else set())


def test_importing_is_quick():
    """The best of a few runs: a busy machine makes all of them slower, a slow import each."""

    def seconds_beyond_numpy() -> int:
        report = run("-X", "importtime", "-c", "import numpy, xpcnn").stderr
        cumulative = re.search(r"^import time: +\d+ \| +(\d+) \| xpcnn$", report, re.MULTILINE)
        return int(cumulative[1])

    assert min(seconds_beyond_numpy() for _ in range(5)) < ALLOWED
