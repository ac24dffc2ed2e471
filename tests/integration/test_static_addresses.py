"""A browser keeps static files, and never one beyond an upgrade."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.templatetags.static import static
from django.test import Client

from oms import static_addresses
from tests import people

pytestmark = pytest.mark.django_db


def test_every_script_and_style_of_a_page_has_what_is_in_it_in_its_address() -> None:
    client = Client()
    client.force_login(people.operator("eva", *people.EVERYTHING))
    page = client.get("/admin/").content.decode()
    found = re.findall(r'(?:src|href)="(/static/[^"]+\.(?:js|css|svg)[^"]*)"', page)
    assert any(one.startswith("/static/oms/live.js?v=") for one in found)
    for address in found:
        assert re.fullmatch(r"[^?]+\?v=[0-9a-f]{12}", address), address
        assert client.get(address).status_code == 200


def test_an_address_changes_with_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "some.js"
    monkeypatch.setattr(finders, "find", lambda name: str(file))

    def address(words: str) -> str:
        file.write_text(words)
        static_addresses._read_once.cache_clear()
        return staticfiles_storage.url("oms/some.js")

    try:
        first = address("one")
        assert first != address("two")
        assert first == address("one")
    finally:
        static_addresses._read_once.cache_clear()


def test_what_is_not_there_has_its_bare_address() -> None:
    assert static("oms/of-no-such-name.js") == "/static/oms/of-no-such-name.js"
    assert static("oms") == "/static/oms"
