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
        ("<p style='color: #888'>faint</p>", "Hard to read when it is light (3.5"),
        ("<p style='background: #333'>dark on dark</p>", "Hard to read when it is dark (1.6"),
        ("<p style='opacity: 0.4'>half there</p>", "Hard to read"),
        ("<svg><rect fill='#666' width='99' height='99'/><text y='20'>x</text></svg>", "in text"),
        ("<a href='/y' tabindex='1'>First of all</a>", "with a turn: 'First of all'"),
        ("<a href='/y' style='position: fixed; top: -99px'>Gone</a>", "out of sight at 'Gone'"),
        ("<a href='/y' onkeydown='event.preventDefault()'>Trap</a><a href='/z'>Z</a>", "out 'Z'"),
        ("<a href='/y' style='position: absolute; top: 0; left: 0'>Up</a>", "Tab goes back"),
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
