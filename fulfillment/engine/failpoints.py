"""Places where tests let the process die, to see that nothing is lost or done twice.

`OMS_FAILPOINTS=sending.after_send@3` kills it at the third time that it comes by there. Without
the variable a failpoint is one look at an empty table.
"""

from __future__ import annotations

import os
import signal


def _armed(text: str) -> dict[str, int]:
    armed = {}
    for part in filter(None, text.split(",")):
        name, _, count = part.partition("@")
        armed[name] = int(count or 1)
    return armed


_left = _armed(os.environ.get("OMS_FAILPOINTS", ""))


def reach(name: str) -> None:
    """Go on, or die here as if the power had failed."""
    if not _left or name not in _left:
        return
    _left[name] -= 1
    if _left[name] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
