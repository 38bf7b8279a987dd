"""`xpcnn devices`."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from .._xp import devices as find_devices
from ._shared import out


def devices() -> None:
    """Tell where xpcnn can compute, and why not elsewhere."""
    table = Table("device", "here", "what")
    for found in find_devices():
        table.add_row(found.name, "yes" if found.device else "no", escape(found.detail))
    out.print(table)
