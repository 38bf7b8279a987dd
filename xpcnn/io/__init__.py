"""From files to arrays and models, and back. The optional dependencies live here."""

from __future__ import annotations

from .images import read_image

__all__ = ["read_image"]
