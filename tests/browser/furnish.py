"""Run beside a house, as a process of its own: publishes the walks' workflow, and prints keys.

One process for all of that: each takes seconds to know the models.
"""

from __future__ import annotations

import io
import json
import sys

import django
from django.core.management import call_command

from tests.browser.house import CLIENT, LINE_RENTAL, PEOPLE


def keys() -> dict[str, str]:
    """By name: of the client, and of those people who ask by program."""
    found = {}
    for option, name in (("--client", CLIENT), *(("--user", name) for name in PEOPLE)):
        told = io.StringIO()
        call_command("api_key", "create", option, name, "--quiet", stdout=told)
        found[name] = told.getvalue().strip()
    return found


if __name__ == "__main__":
    django.setup()
    call_command("workflows", "publish", str(LINE_RENTAL), verbosity=0)
    sys.stdout.write(json.dumps(keys()))
