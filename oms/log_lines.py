"""Log lines: a constant message, then what the call passed in `extra` as key=value."""

from __future__ import annotations

import json
import logging
import time

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """One line per record, times in UTC, so that lines can be searched and counted."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        extra = {
            name: value
            for name, value in vars(record).items()
            if name not in _STANDARD and not name.startswith("_") and _plain(value)
        }
        pairs = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in extra.items())
        return " ".join((super().formatMessage(record), *pairs))


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
