"""Somebody at the desk, with a browser: goes where a person would, and counts what it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import (
    APIResponse,
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    StorageState,
    expect,
)

from tests.browser.house import House

PATIENCE_MILLISECONDS = 20_000
"""For everything that is expected to happen."""
expect.set_options(timeout=PATIENCE_MILLISECONDS)


class Operator:
    """One person's window. A click is a click, also one into a field before typing."""

    def __init__(
        self, browser: Browser, house: House, name: str, *, known: StorageState | None = None
    ) -> None:
        self.name = name
        self.house = house
        self.clicks = 0
        self.faults: list[str] = []
        """What a browser's console would show to whoever opens it."""
        self._foreseen: list[str] = []
        self._context = browser.new_context(
            base_url=house.address,
            viewport={"width": 1280, "height": 900},
            storage_state=known,
        )
        self._context.set_default_timeout(PATIENCE_MILLISECONDS)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self._fault(f"error in a script: {error}"))
        self.page.on("response", self._heed)

    # --- getting there ---------------------------------------------------------------------------

    def sign_in(self) -> StorageState:
        """By the form; whoever comes again may be known by what this returns."""
        self.page.goto("/admin/login/")
        self.page.get_by_label("Username").fill(self.name)
        self.page.get_by_label("Password").fill(self.house.password)
        self.page.get_by_label("Password").press("Enter")
        expect(self.page).to_have_url(re.compile(r"/admin/$"))
        return self._context.storage_state()

    def open(self, path: str) -> Response:
        """By its address, as whoever has a link to it; it must be there."""
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.ok, f"{self.name}, {path}: {answer.status}"
        return answer

    def today(self) -> None:
        """Where everybody begins; no click is counted before."""
        self.open("/admin/")
        self.clicks = 0

    def menu(self, words: str, *, folded: str = "") -> None:
        """A line of the side bar, in a part of it that may have to be unfolded."""
        bar = self.page.locator("#nav-sidebar-apps")
        if folded:
            self.click(bar.get_by_role("button", name=folded))
        # Behind the words it may say how many.
        line = re.compile(rf"^{re.escape(words)}(\s+[\d,]+.*)?$")
        self.click(bar.get_by_role("link", name=line).first)

    def arrives(self, address: re.Pattern[str]) -> None:
        """The page is there, and listens to keys."""
        expect(self.page).to_have_url(address)
        self.page.wait_for_load_state()

    # --- doing -----------------------------------------------------------------------------------

    def click(self, what: Locator) -> None:
        what.click()
        self.clicks += 1

    def follow(self, words: str | re.Pattern[str], *, within: Locator | None = None) -> None:
        """A link of the page."""
        place = within or self.content
        self.click(place.get_by_role("link", name=words).first)

    def press_button(self, words: str | re.Pattern[str]) -> None:
        self.click(self.content.get_by_role("button", name=words).first)

    def type(self, field: str | re.Pattern[str], text: str) -> None:
        """Into a field, by its label."""
        place = self.content.get_by_label(field).first
        self.click(place)
        place.fill(text)

    def choose(self, field: str, option: str) -> None:
        """One of a list: two clicks."""
        self.content.get_by_label(anything(field)).first.select_option(label=option)
        self.clicks += 2

    def looks_first(self, *, reason: str, evidence: str = "", **fields: str) -> None:
        """Fills in the form of an operation, and sees what it would do."""
        for field, text in {**fields, "Reason": reason, "Evidence": evidence}.items():
            if text:
                self.type(re.compile(f"^{field}"), text)
        self.press_button("See what it would do")
        self.sees("What it would do now")

    def keys(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    # --- seeing ----------------------------------------------------------------------------------

    @property
    def content(self) -> Locator:
        """What is not frame: the page's own part, with what may be done above it."""
        return self.page.locator("#main")

    def sees(self, words: str | re.Pattern[str]) -> None:
        expect(self.content).to_contain_text(words)

    def sees_not(self, words: str | re.Pattern[str]) -> None:
        expect(self.content).not_to_contain_text(words)

    def rows(self) -> list[list[str]]:
        """The cells of the page's list."""
        found: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('#result_list tbody tr')].map((row) => "
            "[...row.querySelectorAll('th, td')].map((cell) => cell.textContent.trim()))"
        )
        return found

    def offered(self) -> list[str]:
        """The names of all links and buttons of the page's own part."""
        found = self.content.get_by_role("link").or_(self.content.get_by_role("button"))
        return [words.strip() for words in found.all_text_contents() if words.strip()]

    def looks_at(self, *paths: str, method: str = "GET") -> dict[str, tuple[int, str]]:
        """The status and the text of many pages, without opening them in the window."""
        cookies = "; ".join(
            f"{one.get('name')}={one.get('value')}" for one in self._context.cookies()
        )
        return self.house.fetch(paths, cookies=cookies, method=method)

    # --- by force --------------------------------------------------------------------------------

    def form(self) -> dict[str, str]:
        """What the form of this page would send if it were sent now."""
        found: dict[str, str] = self.page.evaluate(
            "Object.fromEntries(new FormData(document.querySelector('#main form[data-once]')))"
        )
        return found

    @property
    def token(self) -> str:
        """Of this person's session, against forgery."""
        return self._cookies()["csrftoken"]

    def forge(self, path: str, *, token: str | None = None, **form: str) -> APIResponse:
        """The answer to a POST that no page has offered, with this person's session and token, or
        with another's."""
        given = self.token if token is None else token
        return self._context.request.post(
            path,
            form={**form, "csrfmiddlewaretoken": given},
            headers={"Referer": self.house.address + path},
            max_redirects=0,
        )

    # --- what must not happen --------------------------------------------------------------------

    @contextmanager
    def foreseen(self, *patterns: str) -> Iterator[None]:
        """Meanwhile these faults belong to the test."""
        self._foreseen = list(patterns)
        yield
        self._foreseen = []

    def leave_traces(self, folder: Path, name: str) -> list[Path]:
        """What can be seen now, as a picture and as text."""
        folder.mkdir(parents=True, exist_ok=True)
        picture, text = folder / f"{name}-{self.name}.png", folder / f"{name}-{self.name}.html"
        self.page.screenshot(path=picture, full_page=True)
        text.write_text(self.page.content())
        return [picture, text]

    def leave(self) -> None:
        self._context.close()

    def _cookies(self) -> dict[str, str]:
        return {one.get("name", ""): one.get("value", "") for one in self._context.cookies()}

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._fault(f"{message.text} ({message.location.get('url', '')})")

    def _heed(self, answer: Response) -> None:
        if answer.status >= 500:
            self._fault(f"{answer.status} {answer.url}")

    def _fault(self, words: str) -> None:
        if not any(re.search(pattern, words) for pattern in self._foreseen):
            self.faults.append(f"{self.name}, at {self.page.url}: {words}")


class Cast:
    """The people of one test, by their names on the embedded stack."""

    def __init__(self, browser: Browser, house: House, known: dict[str, StorageState]) -> None:
        self._browser = browser
        self._house = house
        self._known = known
        self.people: list[Operator] = []

    def __call__(self, name: str) -> Operator:
        """They have signed in, and see the first page."""
        known = self._known.get(name)
        one = Operator(self._browser, self._house, name, known=known)
        self.people.append(one)
        if known is None:
            self._known[name] = one.sign_in()
        else:
            one.today()
        return one

    def leave_traces(self, folder: Path, name: str) -> list[Path]:
        return [trace for one in self.people for trace in one.leave_traces(folder, name)]

    def faults(self) -> list[str]:
        return [fault for one in self.people for fault in one.faults]

    def leave(self) -> None:
        for one in self.people:
            one.leave()


def anything(words: str) -> re.Pattern[str]:
    """Whatever contains these words, in capitals or not."""
    return re.compile(re.escape(words), re.IGNORECASE)
