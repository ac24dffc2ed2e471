"""Addresses of static files that change with what is in them."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage


class ByContent(StaticFilesStorage):
    """`/static/oms/live.js?v=5f2c…`: after an upgrade, no browser runs what it has kept.

    Files are served from the packages that bring them, so their names stay as they are: a copy
    under a name of its own would have to be collected wherever the product runs.
    """

    def url(self, name: str | None) -> str:
        """A file that is not there has its bare address."""
        address = super().url(name)
        # Edited files are seen at once where somebody develops.
        version = (_read if settings.DEBUG else _read_once)(name or "")
        return f"{address}?v={version}" if version else address


def _read(name: str) -> str:
    found = finders.find(name)
    if not isinstance(found, str) or not Path(found).is_file():
        return ""
    return sha256(Path(found).read_bytes()).hexdigest()[:12]


_read_once = lru_cache(maxsize=None)(_read)
