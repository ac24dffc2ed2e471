"""How what a form has shown is done without it: by a command on a server, or a call of the API."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from fulfillment import operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Both ask for the same operation, by the same rules, and leave the same record."""

    command: str
    call: str
    body: str
    """JSON."""


def elsewhere(request: operations.Request, *, user_name: str) -> Elsewhere:
    """`request` as this user would type it."""
    words = ["manage.py", "operate", request.action.value, request.subject]
    words += ["--as", user_name, "--reason", request.reason]
    if request.evidence:
        words += ["--evidence", request.evidence]
    if request.parameters:
        words += ["--json", json.dumps(dict(request.parameters), ensure_ascii=False)]
    body = {
        "action": request.action.value,
        "subject": request.subject,
        "reason": request.reason,
        **({"evidence": request.evidence} if request.evidence else {}),
        **({"parameters": dict(request.parameters)} if request.parameters else {}),
    }
    return Elsewhere(
        command=shlex.join(words),
        call="POST /api/v1/operations",
        body=json.dumps(body, ensure_ascii=False, indent=2),
    )
