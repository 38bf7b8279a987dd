"""Where the CUDA sources are: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def source(name: str) -> str:
    """Read one file of kernels/.

    Raises FileNotFoundError where there is no such file in either place.

    >>> source("README.md").splitlines()[0]
    '# kernels'
    """
    # an editable install has no copy of kernels/ inside the package
    for folder in (files("xpcnn") / "kernels", Path(__file__).parents[2] / "kernels"):
        file = folder / name
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(
        f"source({name!r}): no such file in the package's kernels/ or in the checkout's; "
        "check the name, or reinstall xpcnn"
    )
