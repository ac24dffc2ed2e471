"""`manage.py bulk …`: one operation over many, drafted, started, followed and stopped."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_reason
from fulfillment.models import BulkJob
from fulfillment.operations import bulk

_CONTROLS = {
    "pause": "let it stand until somebody resumes it",
    "resume": "let it go on, up to its next stage",
    "cancel": "leave the rest as it is, for good",
    "look-again": "look at all rows of a draft anew",
}


class Command(BaseCommand):
    help = "Bulk jobs: one operation over many subjects."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("list", help="all of them, the newest first")
        show = verbs.add_parser("show", help="one, and how far it is")
        show.add_argument("job", type=int)
        rows = verbs.add_parser("rows", help="its rows: what was foreseen, done, and came of it")
        rows.add_argument("job", type=int)
        rows.add_argument("--state", default="", help="only these, such as REFUSED")
        rows.add_argument("--csv", action="store_true", help="all rows and columns as CSV")
        _add_draft(verbs.add_parser("draft", help="freeze a selection and look at each of it"))
        release = verbs.add_parser("release", help="draft the release of an incident")
        release.add_argument("incident", type=int)
        _add_terms(release)
        add_reason(release)
        start = verbs.add_parser("start", help="begin with its first rows, or ask for approval")
        start.add_argument("job", type=int)
        add_reason(start)
        for name, told in _CONTROLS.items():
            control = verbs.add_parser(name, help=told)
            control.add_argument("job", type=int)
            add_reason(control)
        leave_out = verbs.add_parser("leave-out", help="rows of a draft: what can't be done")
        leave_out.add_argument("job", type=int)
        leave_out.add_argument("subjects", nargs="*", help="only these, such as task:12")
        add_reason(leave_out)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        do = {
            "list": self._list,
            "show": self._show,
            "rows": self._rows,
            "draft": self._draft,
            "release": self._release,
            "start": self._start,
        }.get(verb)
        try:
            if do is not None:
                do(options)
            else:
                self._control(verb.replace("-", "_"), options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _list(self, options: dict[str, Any]) -> None:
        jobs = list(BulkJob.objects.order_by("-pk")[:200])
        counts = bulk.counts(job_ids=[job.pk for job in jobs])
        for job in jobs:
            self.stdout.write(
                f"{job.pk:<8} {job.state:15} {job.action:18} {_told(counts[job.pk]):50} "
                f"{job.actor}: {' '.join(job.reason.split())}"
            )

    def _show(self, options: dict[str, Any]) -> None:
        job = bulk.job_of(str(options["job"]))
        now = bulk.counts(job_ids=[job.pk])[job.pk]
        asked = bulk.open_approval(job)
        self.stdout.write(f"{job} is {job.state}. {job.state_reason}".strip())
        self.stdout.write(f"  by {job.actor}: {job.reason}")
        self.stdout.write(f"  selection  {json.dumps(job.selection)}")
        self.stdout.write(f"  rows       {_told(now)}")
        if job.state == "DRAFT":
            looked = "all looked at" if job.digest else f"{now.unseen} not looked at yet"
            self.stdout.write(f"  dry run    {looked}; {now.impossible} can't be done")
        else:
            self.stdout.write(f"  stage      {job.stage} of {len(job.ends) - 1}, up to {job.ends}")
        if asked is not None:
            self.stdout.write(f"  approval   {asked.pk} waits for somebody with {asked.needs}")

    def _rows(self, options: dict[str, Any]) -> None:
        job = bulk.job_of(str(options["job"]))
        if options["csv"]:
            for line in bulk.exported(job=job):
                self.stdout.write(line, ending="")
            return
        for row in bulk.rows_of(job=job, state=options["state"], limit=bulk.MOST):
            self.stdout.write(
                f"{row.position:<6} {row.subject:24} {row.state:12} {row.foreseen:10} "
                f"{row.told or row.foretold}"
            )

    def _draft(self, options: dict[str, Any]) -> None:
        selection = bulk.Selection(
            of=options["of"],
            names=options["names"] or (),
            filter=_filter(options["of"], options["filter"] or ()),
            note="manage.py bulk draft",
        )
        job = bulk.draft(
            actor=actor_of(options),
            action=options["action"],
            selection=selection,
            reason=options["reason"],
            evidence=options["evidence"],
            parameters=options["json"],
            terms=_terms(options),
        )
        self._drafted(job.pk)

    def _release(self, options: dict[str, Any]) -> None:
        terms = _terms(options)
        job_id = bulk.release(
            incident_id=options["incident"],
            actor=actor_of(options),
            reason=options["reason"],
            parameters={
                "canary": terms.canary,
                "stages": list(terms.stages),
                "goes_on": terms.goes_on,
                "most_failures": terms.most_failures,
                "most_failures_percent": terms.most_failures_percent,
                "known_within": f"PT{int(terms.known_within.total_seconds())}S",
            },
        )
        self._drafted(job_id)

    def _drafted(self, job_id: int) -> None:
        total = bulk.counts(job_ids=[job_id])[job_id].total
        self.stdout.write(
            f"Bulk job {job_id} is drafted: {total} rows, and each is looked at now. "
            f"`manage.py bulk show {job_id}` says how far that is, `start {job_id}` begins."
        )

    def _start(self, options: dict[str, Any]) -> None:
        done, approval = bulk.start(
            job_id=options["job"], actor=actor_of(options), reason=options["reason"]
        )
        if done is not None:
            self.stdout.write(done.told)
        if approval is not None:
            self.stdout.write(
                f"Approval {approval.pk} is asked for: somebody else with {approval.needs} has to "
                "give it, and then it begins."
            )

    def _control(self, what: str, options: dict[str, Any]) -> None:
        done = bulk.control(
            job_id=options["job"],
            what=what,
            actor=actor_of(options),
            reason=options["reason"],
            subjects=tuple(options.get("subjects") or ()),
        )
        self.stdout.write(done.told)


def _add_draft(parser: CommandParser) -> None:
    parser.add_argument("action", help="such as task.retry; `manage.py operate list` names them")
    parser.add_argument("--of", required=True, help="the list: order, task, case, manual, …")
    parser.add_argument("--names", nargs="+", help="those named, such as 12 13 or O-17")
    parser.add_argument(
        "--filter",
        nargs="+",
        metavar="NAME=VALUE",
        help="what the list is filtered by, such as target=billing",
    )
    parser.add_argument("--json", type=_object, default={}, help="parameters of the operation")
    parser.add_argument("--evidence", default="", help="what this rests on, and where it is seen")
    _add_terms(parser)
    add_reason(parser)


def _add_terms(parser: CommandParser) -> None:
    usual = bulk.Terms()
    parser.add_argument("--canary", type=int, default=usual.canary, help="so many first")
    parser.add_argument(
        "--stages",
        type=_percents,
        default=usual.stages,
        help="then up to so many percent, such as 10,50; then all",
    )
    parser.add_argument("--goes-on", action="store_true", help="after a stage that went well")
    parser.add_argument("--most-failures", type=int, default=usual.most_failures)
    parser.add_argument("--most-failures-percent", type=int, default=usual.most_failures_percent)
    parser.add_argument(
        "--known-within-seconds", type=int, default=int(usual.known_within.total_seconds())
    )


def _terms(options: dict[str, Any]) -> bulk.Terms:
    return bulk.Terms(
        canary=options["canary"],
        stages=tuple(options["stages"]),
        goes_on=options["goes_on"],
        most_failures=options["most_failures"],
        most_failures_percent=options["most_failures_percent"],
        known_within=timedelta(seconds=options["known_within_seconds"]),
    )


def _filter(of: str, given: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Texts as they are; numbers and yes or no where the list's filter has those."""
    listing = bulk.listings().get(of)
    fields = listing.filters.model_fields if listing else {}
    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise CommandError(f"{one!r} is no filter; write it as target=billing.")
        field = fields.get(name)
        if field is not None and field.annotation in (int, bool):
            try:
                found[name] = json.loads(value)
            except ValueError:
                raise CommandError(f"{name} is no {value!r}: a number, true or false.") from None
        else:
            found[name] = value
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ArgumentTypeError(f'{text!r} is no JSON object such as {{"then": "retry"}}')
    return found


def _percents(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(",") if one)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} are no percents such as 10,50") from None


def _told(counts: bulk.Counts) -> str:
    states = ", ".join(f"{number} {state}" for state, number in sorted(counts.by_state.items()))
    return f"{counts.total}: {states}"
