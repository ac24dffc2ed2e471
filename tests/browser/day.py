"""A day at the desk on which there is one of everything that has a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.browser.house import House, line_rental, sample
from tests.waiting import until

HOSTILE = {"id": "C-1", "name": "<script>document.title = 'taken'</script>" + "long" * 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    done: str
    """The reference of an order that is complete."""
    failed: str
    """Of one that billing has refused."""
    task: int
    """By which it has failed."""
    pages: Mapping[str, str]
    """By what they are about, their addresses."""


def made(house: House) -> Day:
    """One order is done, several have fallen out; somebody has asked for an approval, somebody has
    drafted a bulk job, one thing is to be decided, and one report is about nothing."""
    (done,) = house.submit(line_rental(house.name("done")))
    house.until_state("COMPLETED", done)
    code = house.name("no_account")
    house.refuses("billing", code)
    failed, *others = house.submit(
        line_rental(house.name("failed"), customer=HOSTILE),
        *(line_rental(house.name("failed")) for _ in range(3)),
    )
    (deciding,) = house.submit(sample("purchase-approval/large", external_id=house.name("buy")))
    house.report("provisioning", idempotency_key="of-nobody", status="succeeded")
    incident = house.incident_of(code, cases=4)
    tasks = [house.task_of(one) for one in (failed, *others)]
    house.script()
    asked_for = house.operate(
        "task.waive",
        f"task:{tasks[1]}",
        who="finance",
        reason="It is billed by hand.",
        evidence="Ledger 12",
        parameters={"outputs": {"reference": "BY-HAND"}},
    )["approval"]["id"]
    job = house.call(
        "POST",
        "/bulk-jobs",
        {
            "action": "task.retry",
            "selection": {"of": "task", "names": list(map(str, tasks[2:]))},
            "reason": "The account is there.",
        },
        who="finance",
    )["id"]
    asked: list[int] = []

    def is_asked() -> bool:
        rows = house.call("GET", f"/manual-work?order={deciding}", who="senior")["manual_tasks"]
        asked[:] = [one["id"] for one in rows]
        return bool(asked)

    until(is_asked, seconds=60, pause_seconds=0.2)
    here = "/admin/fulfillment"
    return Day(
        done=done,
        failed=failed,
        task=tasks[0],
        pages={
            "an order that is done": f"/admin/orders/{done}",
            "an order that has failed": f"/admin/orders/{failed}",
            "a task": f"{here}/task/{tasks[0]}/change/",
            "a case": f"{here}/falloutcase/{house.case_of(failed)['id']}/change/",
            "an incident": f"{here}/incident/{incident}/change/",
            "a bulk job": f"{here}/bulkjob/{job}/change/",
            "a manual task": f"{here}/manualtask/{asked[0]}/change/",
            "a decision": f"{here}/manualtask/{asked[0]}/decide/",
            "an approval": f"{here}/approval/{asked_for}/change/",
            "a target system": f"{here}/targetsystem/billing/change/",
            "cancelling": f"{here}/operation/operate/order.cancel/order:{failed}",
            "releasing": f"{here}/operation/operate/incident.release/incident:{incident}",
        },
    )
