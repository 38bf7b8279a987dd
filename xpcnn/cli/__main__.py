"""`python -m xpcnn.cli`."""

from __future__ import annotations

from . import app

app()
