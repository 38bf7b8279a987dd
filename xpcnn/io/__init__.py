"""From files to arrays and models, and back. The optional dependencies live here."""

from __future__ import annotations

from .images import read_image, read_photo

__all__ = ["read_image", "read_photo"]
