"""Prefect's server, without its indexes for searching in names. Run by Prefect's interpreter.

    python prefect_server.py PORT

They need an extension (pg_trgm) that the embedded PostgreSQL does not bring. Without them the
server has less to do, so nothing of what it is measured by gets worse.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from prefect.server.api.server import create_app
from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "before_cursor_execute", retval=True)
def without_trigrams(
    connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> tuple[str, Any]:
    return ("SELECT 1" if "trgm" in statement else statement), parameters


if __name__ == "__main__":
    uvicorn.run(create_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
