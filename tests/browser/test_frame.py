"""What holds for every page: it opens, says what it is, and is usable without a mouse."""

from __future__ import annotations

import html
import re
import signal

import pytest
from playwright.sync_api import expect

from tests.browser import readable
from tests.browser.day import Day, made
from tests.browser.house import House, line_rental
from tests.browser.operator import Cast, Operator

FALLOUT = re.compile(r"/admin/fulfillment/falloutcase/\?")
CASE = re.compile(r"/admin/fulfillment/falloutcase/\d+/change/")


@pytest.fixture(scope="module")
def day(house: House) -> Day:
    return made(house)


def test_every_page_of_the_side_bar_is_readable(day: Day, people: Cast) -> None:
    senior = people("senior")
    paths = _lines(senior)
    wrong = {"the frame": readable.faults(senior.page)}
    for path in paths:
        senior.open(path)
        wrong[path] = readable.faults(senior.page, within="#main")
    assert {path: found for path, found in wrong.items() if found} == {}


def test_every_other_kind_of_page_is_readable(day: Day, people: Cast) -> None:
    senior = people("senior")
    pages = dict(day.pages)
    for name, path, kind in (
        ("a plan", pages["an order that has failed"], r"/admin/fulfillment/plan/\d+/change/"),
        ("a command", pages["a case"], r"/admin/fulfillment/command/\d+/change/"),
        ("a workflow", "/admin/desk/workflows", r"/admin/fulfillment/workflowversion/\d+/change/"),
        ("an event", "/admin/fulfillment/inboundevent/", r"/[^\"]*/inboundevent/\d+/change/"),
        ("a hold to be placed", pages["a task"], r"/admin/fulfillment/operation/operate/hold.*"),
    ):
        pages[name] = next(link for link in _links(senior, path) if re.fullmatch(kind, link))
    for path in _links(senior, "/admin/desk/reports"):
        if path.startswith("/admin/desk/reports/"):
            pages[path] = path
    wrong = {}
    for name, path in pages.items():
        # What comes of a release is tried again by whoever starts it: at billing, finance.
        one = people("finance") if name == "releasing" else senior
        one.open(path)
        wrong[name] = readable.faults(one.page, within="#main")
    assert {name: found for name, found in wrong.items() if found} == {}


def test_what_would_be_done_is_readable(day: Day, people: Cast) -> None:
    finance = people("finance")
    wrong = {}
    retry = f"/admin/fulfillment/operation/operate/task.retry/task:{day.task}"
    for name, path in (("trying again", retry), ("cancelling", day.pages["cancelling"])):
        one = people("desk") if name == "cancelling" else finance
        one.open(path)
        one.press_button("See what it would do")
        one.sees("This field is required")
        wrong[f"{name}, without a reason"] = readable.faults(one.page, within="#main")
        one.looks_first(reason="They have called.")
        wrong[f"{name}, shown first"] = readable.faults(one.page, within="#main")
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("name", ["senior", "auditor", "desk"])
def test_nothing_that_is_shown_is_refused(day: Day, people: Cast, name: str) -> None:
    """Whatever a page of the side bar leads to opens for whoever sees it."""
    one = people(name)
    paths = _lines(one)
    assert "/admin/" in paths
    # One of each kind is enough: /admin/orders/O-1 and /admin/orders/O-2 are two of one.
    links = {re.sub(r"\d+", "#", link): link for link in _links(one, *paths)}
    assert links
    answers = one.looks_at(*links.values(), method="HEAD")
    assert {link: status for link, (status, _) in answers.items() if status >= 400} == {}


def test_what_customers_are_called_does_nothing(day: Day, people: Cast) -> None:
    senior = people("senior")
    senior.menu("Orders")
    senior.sees("<script>")
    senior.follow(re.compile(r"O-\d+"))
    expect(senior.page).not_to_have_title("taken")


def test_from_today_to_a_case_and_back_by_keys_alone(day: Day, people: Cast) -> None:
    supply = people("supply")
    page = supply.page
    supply.keys("g", "f")
    supply.arrives(FALLOUT)
    supply.keys("j")
    row = page.locator(":focus")
    expect(row).to_be_visible()
    supply.keys("j", "k", "Enter")
    supply.arrives(CASE)
    supply.keys("g", "t")
    supply.arrives(re.compile(r"/admin/$"))
    supply.keys("?")
    told = page.get_by_role("dialog")
    expect(told).to_contain_text("Fallout")
    supply.keys("Escape")
    expect(told).not_to_be_visible()
    supply.keys("g", "o")
    supply.arrives(re.compile(r"/admin/oms/order/$"))
    supply.keys("/")
    page.keyboard.type(day.done)
    supply.keys("Enter")
    expect(page.locator("#result_list tbody tr")).to_contain_text([day.done])
    assert supply.clicks == 0


def test_what_is_folded_is_unfolded_and_signed_out_by_keys_alone(day: Day, people: Cast) -> None:
    desk = people("desk")
    folded = desk.page.get_by_role("button", name="Engine")
    expect(folded).to_have_attribute("aria-expanded", "false")
    folded.press("Enter")
    expect(folded).to_have_attribute("aria-expanded", "true")
    expect(desk.page.get_by_role("link", name="Plans", exact=True)).to_be_visible()
    desk.page.get_by_role("button", name="desk", exact=False).last.press(" ")
    out = desk.page.get_by_role("button", name="Log out")
    expect(out).to_be_visible()


def test_an_open_page_follows_what_happens_and_keeps_what_is_open(
    house: House, people: Cast
) -> None:
    house.refuses("crm", "UNKNOWN_CUSTOMER")
    (reference,) = house.submit(line_rental("LIVE"))
    case = house.case_of(reference)
    senior = people("senior")
    page = senior.page
    senior.open(f"/admin/orders/{reference}")
    standing = page.get_by_role("region", name="How this order stands")
    expect(standing).to_contain_text("0 of 3 tasks done")
    page.evaluate("window.isTheSame = true")
    folded = standing.locator("details").filter(has_text="How far it is")
    folded.locator("summary").first.click()
    plan = standing.get_by_role("link", name=re.compile(r"^plan \d+"))
    plan.focus()

    house.script()
    (task,) = (
        one["id"] for one in house.call("GET", f"/cases/{case['id']}", who="senior")["tasks"]
    )
    request = {"action": "task.retry", "subject": f"task:{task}", "reason": "They are known now."}
    house.call("POST", "/operations", request, who="supply")
    house.until_state("COMPLETED", reference)
    _hurry(senior)
    expect(standing).to_contain_text("3 of 3 tasks done")
    expect(plan).to_be_focused()
    expect(folded).to_have_attribute("open", "")
    assert page.evaluate("window.isTheSame")


def test_what_somebody_has_typed_stays_although_they_look_elsewhere(
    house: House, people: Cast
) -> None:
    house.refuses("crm", "UNKNOWN_CUSTOMER")
    house.case_of(*house.submit(line_rental("TYPED-1")))
    senior = people("senior")
    page = senior.page
    senior.open("/admin/fulfillment/falloutcase/?resolved_at__isempty=1")
    told = page.get_by_role("region", name="What waits")
    many = int(told.inner_text().partition(" open")[0])
    assert many >= 1
    field = page.locator("#live-list [name=q]")
    field.fill("UNKNOWN")
    field.blur()
    house.case_of(*house.submit(line_rental("TYPED-2")))
    # What has come is thrown away, as if the field was filled in while it was on its way.
    page.evaluate(
        """() => new Promise((done) => {
          document.addEventListener("htmx:afterOnLoad", () => setTimeout(done), { once: true });
          htmx.trigger("#live-list", "desk:look");
        })"""
    )
    expect(field).to_have_value("UNKNOWN")
    expect(told).to_contain_text(f"{many} open")
    field.fill("")
    field.blur()
    _hurry(senior)
    expect(told).to_contain_text(f"{many + 1} open")


def test_a_page_says_when_its_server_is_away_and_when_it_is_back(
    house: House, people: Cast
) -> None:
    senior = people("senior")
    senior.open("/admin/desk/targets")
    told = senior.page.locator(".desk-stale")
    expect(told).not_to_be_visible()
    with senior.foreseen("ERR_", "^50", "htmx"):
        house.stack.kill("web", signal.SIGTERM)
        _hurry(senior)
        expect(told).to_contain_text(re.compile(r"as of \d\d:\d\d:\d\d UTC"))
        house.until_it_answers()
        _hurry(senior)
        expect(told).not_to_be_visible()


def _hurry(one: Operator) -> None:
    """What looks at itself again four times a minute does so every second, until it has."""
    one.page.evaluate(
        "document.querySelectorAll('[data-live-seconds]')"
        ".forEach((region) => { region.dataset.liveSeconds = '1'; })"
    )


def _lines(one: Operator) -> list[str]:
    """Where the lines of the side bar lead within the desk, the folded ones too."""
    found: list[str] = one.page.evaluate(
        "[...document.querySelectorAll('#nav-sidebar-apps a[href^=\"/admin/\"]')]"
        ".map((link) => link.getAttribute('href'))"
    )
    return found


def _links(one: Operator, *paths: str) -> list[str]:
    """Where pages lead within the desk."""
    found = one.looks_at(*paths)
    assert {path: status for path, (status, _) in found.items() if status != 200} == {}
    return [
        html.unescape(link)
        for _, text in found.values()
        for link in re.findall(r'<a[^>]* href="(/admin/[^"?#]*)', text)
    ]
