"""What is told of a training run: its record, and a page that shows what came of it."""

from __future__ import annotations

from .page import BEGINS as PAGE_BEGINS
from .page import write_page
from .record import BEGINS as RECORD_BEGINS
from .record import Record, Setting, beside, versions_with

__all__ = [
    "PAGE_BEGINS",
    "RECORD_BEGINS",
    "Record",
    "Setting",
    "beside",
    "versions_with",
    "write_page",
]
