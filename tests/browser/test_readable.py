"""The look at a page finds what is wrong with it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser import readable

SOUND = "<h1>Orders</h1><h2>Late</h2><a href='/x'>O-1</a><label>Name <input></label>"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("<h1>Again</h1>", "not exactly one first heading"),
        ("<h4>Deep</h4>", "leaves out a level"),
        ("<a href='/y'></a>", "Without a name: - link"),
        ("<button><svg></svg></button>", "Without a name: - button"),
        ("<img src='data:,'>", "Without a name: - img"),
        ("<input>", "Without a name: - textbox"),
        ("<button style='outline: none'>Press</button>", "focus can't be seen"),
        ("<div style='width: 1500px'>wide</div>", "wider than a window of 1280"),
    ],
)
def test_each_fault_is_found(browser: Browser, wrong: str, told: str) -> None:
    page = browser.new_page()
    page.set_content(f"<div id='main'>{SOUND}</div>")
    assert readable.faults(page) == []
    page.set_content(f"<div id='main'>{SOUND}{wrong}</div>")
    found = readable.faults(page)
    page.close()
    assert any(told in one for one in found)
