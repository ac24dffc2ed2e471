"""A run of some orders for the checker to judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.books import Run


@pytest.fixture
def books_run(committed_db: str, redis_url: str, systems: Any, tmp_path: Path) -> Iterator[Run]:
    made = Run(committed_db, tmp_path)
    yield made
    made.close()
