"""The reports that are told from what has been counted (reference §28.1)."""

from __future__ import annotations

from collections.abc import Callable

from oms.figures.counting import AGAIN, BY_HAND, DECIDED, REPAIRED
from oms.models import Measure
from oms.reports.report import Breakdown, CountedReport
from oms.reports.tables import Cells, Kind, Named, Told, number, share, within

TIMEOUTS = (
    # Of adapters: the answer did not come. Of the engine: what was accepted was not reported.
    "timeout",
    *("report_overdue", "heartbeat_missed", "took_too_long", "timed_out"),
)
"""Codes of unknown outcomes that mean: not in time."""
_OFFERING = Named(name="offering", words="Offering", of=lambda cell: cell.subject)
_TARGET = Named(name="target", words="Target system", of=lambda cell: cell.subject)
_ACTION = Named(name="action", words="Action", of=lambda cell: cell.action)
_ONE_ORDER_ONE_LINE = "An order with several offerings counts once, under that of its first line."
_PRECISION = (
    "Times are kept in classes that grow by a tenth, so a median may be up to 5 % beside the true "
    "one."
)


def _count(name: str, words: str, measure: Measure, *outcomes: str) -> Told:
    return Told(name=name, words=words, of=number(measure, *outcomes))


def _time(name: str, words: str, measure: Measure, part: float) -> Told:
    return Told(name=name, words=words, kind=Kind.SECONDS, of=within(measure, part))


def _share(
    name: str, words: str, part: Callable[[Cells], int], whole: Callable[[Cells], int]
) -> Told:
    return Told(name=name, words=words, kind=Kind.SHARE, of=share(part, whole))


_ENDED = _count("orders_ended", "Orders ended", Measure.ORDERS)
_SENDS = _count("calls", "Calls", Measure.SENDS)
_SUCCEEDED, _FAILED = "SUCCEEDED", "FAILED_FINAL"

CYCLE_TIMES = CountedReport(
    name="cycle-times",
    title="Order cycle time",
    told="How long orders took from the moment they were submitted until they were complete.",
    counted=(
        "Counts every order that became complete, or partly complete, in this time; the clock runs "
        "from its submission, nights, holds and waits for the customer included.",
        "Median: half of them were faster. 90 %: nine of ten were faster.",
        _ONE_ORDER_ONE_LINE,
        _PRECISION,
    ),
    measures=(Measure.ORDERS, Measure.CYCLES),
    by="By offering",
    names=(_OFFERING,),
    columns=(
        _count("completed", "Completed", Measure.CYCLES),
        _time("median_seconds", "Median", Measure.CYCLES, 0.5),
        _time("p90_seconds", "90 % within", Measure.CYCLES, 0.9),
        _count("failed", "Failed", Measure.ORDERS, "FAILED"),
        _count("cancelled", "Cancelled", Measure.ORDERS, "CANCELLED"),
        _count("rejected", "Rejected", Measure.ORDERS, "REJECTED"),
    ),
    plotted=("median_seconds", "p90_seconds"),
    head="median_seconds",
    head_words="median, from submitted to complete",
)
PLAN_TIMES = CountedReport(
    name="plan-times",
    title="Plan running time",
    told="How long plans ran from the moment they were made until they were complete.",
    counted=(
        "Counts every plan that became complete in this time. Unlike the cycle time it leaves out "
        "what comes before a plan: the rules of the order, and questions whether it can be done.",
        "An amended order has a new plan, whose clock begins with it.",
        "A plan of several workflows counts once, in a line of their names.",
        _PRECISION,
    ),
    measures=(Measure.PLANS,),
    by="By workflow",
    names=(Named(name="workflow", words="Workflow", of=lambda cell: cell.subject),),
    columns=(
        _count("completed", "Completed", Measure.PLANS),
        _time("median_seconds", "Median", Measure.PLANS, 0.5),
        _time("p90_seconds", "90 % within", Measure.PLANS, 0.9),
    ),
    plotted=("median_seconds", "p90_seconds"),
    head="median_seconds",
    head_words="median, from planned to complete",
)
TASK_SUCCESS = CountedReport(
    name="task-success",
    title="Task success",
    told="How many of the tasks that target systems were asked to do ended well.",
    counted=(
        "Counts every end of a task in this time for which a target system was asked, or was to be "
        "asked. One that failed for good and was tried again by hand ends twice.",
        "Success is succeeded, out of succeeded and failed for good; what was waived, skipped or "
        "cancelled is neither.",
    ),
    measures=(Measure.TASKS,),
    by="By target system and action",
    names=(_TARGET, _ACTION),
    columns=(
        _count("ended", "Ended", Measure.TASKS),
        _count("succeeded", "Succeeded", Measure.TASKS, _SUCCEEDED),
        _count("failed", "Failed for good", Measure.TASKS, _FAILED),
        _count("waived", "Waived", Measure.TASKS, "WAIVED_BY_AUTHORIZED_USER"),
        _count("skipped", "Skipped", Measure.TASKS, "SKIPPED_BY_POLICY"),
        _count("cancelled", "Cancelled", Measure.TASKS, "CANCELLED"),
        _share(
            "success",
            "Success",
            number(Measure.TASKS, _SUCCEEDED),
            number(Measure.TASKS, _SUCCEEDED, _FAILED),
        ),
    ),
    plotted=("success",),
    head="success",
    head_words="of the tasks succeeded",
    about="target",
)
RETRIES = CountedReport(
    name="retries",
    title="Retries",
    told="How often target systems had to be called again; a sign that one is unstable.",
    counted=(
        "Counts every call that began in this time, except questions what became of an earlier "
        "one. A retry is every call for a task after its first: by itself, by hand, or by a "
        "fallback to this system.",
    ),
    measures=(Measure.SENDS,),
    by="By target system and action",
    names=(_TARGET, _ACTION),
    columns=(
        _count("retries", "Retries", Measure.SENDS, AGAIN),
        _SENDS,
        _share("retried", "Retries of calls", number(Measure.SENDS, AGAIN), number(Measure.SENDS)),
    ),
    plotted=("retried",),
    head="retries",
    head_words="calls were made again",
    about="target",
)
TIMEOUTS_REPORT = CountedReport(
    name="timeouts",
    title="Timeouts",
    told="How often target systems did not say in time what became of a call.",
    counted=(
        "Counts every time in which a task came to an unknown outcome. A timeout is one because "
        "no complete answer came in time, or because what was accepted was not reported in time "
        f"(codes {', '.join(TIMEOUTS)}).",
        "Unknown for another reason: a connection or a worker was lost, or the answer could not "
        "be understood.",
        "The share is out of the calls that began in this time.",
    ),
    measures=(Measure.SENDS, Measure.DOUBTS),
    by="By target system and action",
    names=(_TARGET, _ACTION),
    columns=(
        _count("timeouts", "Timeouts", Measure.DOUBTS, *TIMEOUTS),
        Told(
            name="otherwise_unknown",
            words="Unknown otherwise",
            of=lambda cells: (
                number(Measure.DOUBTS)(cells) - number(Measure.DOUBTS, *TIMEOUTS)(cells)
            ),
        ),
        _SENDS,
        _share(
            "timed_out",
            "Timeouts of calls",
            number(Measure.DOUBTS, *TIMEOUTS),
            number(Measure.SENDS),
        ),
    ),
    plotted=("timed_out",),
    head="timed_out",
    head_words="of the calls timed out",
    about="target",
    breakdowns=(
        Breakdown(
            name="by-code",
            title="Why outcomes were unknown",
            measure=Measure.DOUBTS,
            names=(_TARGET, Named(name="code", words="Code", of=lambda cell: cell.outcome)),
            columns=(_count("times", "Times", Measure.DOUBTS),),
            about="target",
        ),
    ),
)
FALLOUT = CountedReport(
    name="fallout",
    title="Fallout",
    told="How many of the orders could not go on by themselves at some time.",
    counted=(
        "Counts every order that ended in this time, and those of them for which a fallout case "
        "was opened before they ended, whatever it was about.",
        "Below: every case of an order that was opened in this time, by what it was about.",
        _ONE_ORDER_ONE_LINE,
    ),
    measures=(Measure.ORDERS, Measure.ORDERS_WITH_CASE),
    by="By offering",
    names=(_OFFERING,),
    columns=(
        _count("orders_with_case", "With fallout", Measure.ORDERS_WITH_CASE),
        _ENDED,
        _share("fallout", "Fallout", number(Measure.ORDERS_WITH_CASE), number(Measure.ORDERS)),
    ),
    plotted=("fallout",),
    head="fallout",
    head_words="of the orders had a case",
    breakdowns=(
        Breakdown(
            name="by-reason",
            title="Cases by reason",
            measure=Measure.CASES,
            names=(
                Named(
                    name="category",
                    words="Kind",
                    kind=Kind.WORDS,
                    of=lambda cell: cell.outcome,
                ),
                Named(name="reason", words="Reason", of=lambda cell: cell.action),
                _TARGET,
            ),
            columns=(_count("cases", "Cases opened", Measure.CASES),),
        ),
    ),
)
MANUAL = CountedReport(
    name="manual",
    title="Manual intervention",
    told="How many of the orders needed a person; where automation has a gap.",
    counted=(
        "Counts every order that ended in this time, and those of them in which somebody had a "
        "hand before they ended.",
        "Decided: a person answered a manual task of it. Repaired: a person did any other "
        "operation to it, such as a retry, a hold or a change. An order may be both.",
        "Who has a case, and reading, is no intervention.",
        _ONE_ORDER_ONE_LINE,
    ),
    measures=(Measure.ORDERS, Measure.ORDERS_BY_HAND),
    by="By offering",
    names=(_OFFERING,),
    columns=(
        _count("by_hand", "With a person", Measure.ORDERS_BY_HAND, BY_HAND),
        _count("repaired", "Repaired", Measure.ORDERS_BY_HAND, REPAIRED),
        _count("decided", "Decided", Measure.ORDERS_BY_HAND, DECIDED),
        _ENDED,
        _share("manual", "Manual", number(Measure.ORDERS_BY_HAND, BY_HAND), number(Measure.ORDERS)),
    ),
    plotted=("manual",),
    head="manual",
    head_words="of the orders needed a person",
    breakdowns=(
        Breakdown(
            name="by-operation",
            title="What people did to orders",
            measure=Measure.OPERATIONS,
            names=(
                Named(
                    name="operation",
                    words="Operation",
                    kind=Kind.WORDS,
                    of=lambda cell: cell.subject,
                ),
            ),
            columns=(_count("times", "Times", Measure.OPERATIONS),),
        ),
    ),
)
COMPENSATION = CountedReport(
    name="compensation",
    title="Compensation",
    told="How much of what target systems did was undone again.",
    counted=(
        "Counts every undo that succeeded in this time, under the system and the action that "
        "undid it.",
        "The share is out of all tasks of target systems that succeeded in this time, undos too.",
    ),
    measures=(Measure.UNDONE, Measure.TASKS),
    by="By target system and action",
    names=(_TARGET, _ACTION),
    columns=(
        _count("undone", "Undos", Measure.UNDONE),
        _count("succeeded", "Tasks succeeded", Measure.TASKS, _SUCCEEDED),
        _share(
            "compensation",
            "Undos of tasks",
            number(Measure.UNDONE),
            number(Measure.TASKS, _SUCCEEDED),
        ),
    ),
    plotted=("compensation",),
    head="compensation",
    head_words="of what was done undid something",
    about="target",
)
CANCELLATIONS = CountedReport(
    name="cancellations",
    title="Cancellation success",
    told="How many of the wishes to cancel an order came true.",
    counted=(
        "Counts every request to cancel that ended in this time: it succeeded when everything was "
        "undone, and was denied when the order went on.",
        "What was refused at once, before it became a request, is not counted.",
        _ONE_ORDER_ONE_LINE,
    ),
    measures=(Measure.CANCELLATIONS,),
    by="By offering",
    names=(_OFFERING,),
    columns=(
        _count("ended", "Requests ended", Measure.CANCELLATIONS),
        _count("cancelled", "Succeeded", Measure.CANCELLATIONS, "DONE"),
        _count("denied", "Denied", Measure.CANCELLATIONS, "DENIED"),
        _share(
            "success",
            "Success",
            number(Measure.CANCELLATIONS, "DONE"),
            number(Measure.CANCELLATIONS),
        ),
    ),
    plotted=("cancelled", "denied"),
    head="success",
    head_words="of the requests succeeded",
)
