"""A page that reads for too long is given up, and says so: whoever asked does something better than
wait, and nobody waits behind it for a thread and a connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse

MOST_SECONDS = 15.0
"""For each statement of a page. Pages take a twentieth of a second; what takes this long has been
asked for what no index finds."""


class BoundReading:
    """Of what only looks. What is being done ends as it ends: half of it would be worse."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        looks = request.method in ("GET", "HEAD")
        if not looks or not request.path.startswith(reverse("admin:index")):
            return self._get_response(request)
        with _bounded():
            return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception.__cause__, psycopg.errors.QueryCanceled):
            return None
        return render(request, "too_long.html", {"seconds": MOST_SECONDS}, status=503)


@contextmanager
def _bounded() -> Iterator[None]:
    # Past Django's cursor: it is no question of the page.
    connection.ensure_connection()
    connection.connection.execute(f"SET statement_timeout = {round(MOST_SECONDS * 1000)}")
    try:
        yield
    finally:
        try:
            if connection.connection is not None:
                connection.connection.execute("RESET statement_timeout")
        except psycopg.Error:
            connection.close()
