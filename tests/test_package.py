"""What ships beside the Python code is found."""

from __future__ import annotations

import pytest

from xpcnn.engines._kernels import source


def test_finds_kernels():
    assert source("README.md").startswith("# kernels\n")


def test_missing_kernel_is_named():
    with pytest.raises(FileNotFoundError, match=r"source\('absent\.cu'\): no such file"):
        source("absent.cu")
