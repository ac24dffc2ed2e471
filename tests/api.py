"""Calling the API in tests: keys, requests, and every answer looked at."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from oms.keys import create_key
from oms.models import ApiClient, Scope
from tests import desk


class Api:
    """A client of the API, or a person, with a key of their own."""

    def __init__(
        self,
        *,
        name: str = "a-client",
        user: User | None = None,
        scopes: tuple[Scope, ...] = tuple(Scope),
    ) -> None:
        """With a `user` the key is theirs, otherwise that of the client with this name."""
        if user is None:
            client, _ = ApiClient.objects.get_or_create(name=name)
            self.key = create_key(client=client, scopes=scopes)
        else:
            self.key = create_key(user=user, scopes=scopes)
        self._http = Client(raise_request_exception=False)

    def send(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *,
        content_type: str = "application/json",
        authorization: str | None = None,
        **headers: str,
    ) -> HttpResponse:
        """`body` is sent as it is when it is bytes, otherwise as JSON."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given["Authorization"] = f"Bearer {self.key}" if authorization is None else authorization
        return self._http.generic(
            method,
            f"/api/v1{path}",
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            content_type=content_type,
            headers=given,
        )

    def post(self, body: Any, **headers: str) -> HttpResponse:
        return self.send("POST", "/orders", body, **headers)

    def get(self, path: str) -> HttpResponse:
        return self.send("GET", path)


def a_workflow() -> None:
    """One target, and a workflow of two tasks for the offering `thing`."""
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}),
            "two": desk.task(depends_on=[{"output": "one.number"}]),
        },
        milestones={"ready": {"title": "It is ready", "reached_by": "two"}},
    )


def an_order(external_id: str = "X-1", **fields: Any) -> dict[str, Any]:
    """The body of a submission that every rule accepts."""
    return {
        "external_id": external_id,
        "customer": {"id": "C-1"},
        "items": [{"item_id": "1", "action": "add", "offering": "thing"}],
        **fields,
    }


def problem(response: HttpResponse) -> dict[str, Any]:
    """The problem document of an answer that is one, and well-formed (RFC 9457)."""
    assert response["Content-Type"] == "application/problem+json", response.content
    document: dict[str, Any] = json.loads(response.content)
    assert document["status"] == response.status_code
    assert {"type", "title", "detail", "code", "instance"} <= set(document)
    return document
