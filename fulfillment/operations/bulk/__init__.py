"""One operation over many subjects: frozen, foreseen, begun with a few, verified row by row.

A job is one action with fixed parameters over rows that are chosen once. Each row is previewed by
the function that carries it out, is done in a unit of its own together with its own outcome, and
counts once what was wanted has come about. See docs/bulk-jobs.md.
"""

from fulfillment.operations.bulk.controlling import (
    ControlBulkJob,
    StartBulkJob,
    control,
    control_request,
    job_of,
    start,
    start_request,
)
from fulfillment.operations.bulk.drafting import ForMany, Terms, Wanted, draft, offers, wanted
from fulfillment.operations.bulk.progress import (
    Progress,
    Stage,
    names_of,
    progress_of,
    worst_first,
)
from fulfillment.operations.bulk.reading import COLUMNS, exported, open_approval, rows_of
from fulfillment.operations.bulk.releasing import ReleaseIncident, release
from fulfillment.operations.bulk.selecting import (
    MOST,
    Listing,
    Selection,
    listings,
    register_listing,
    register_way,
)
from fulfillment.operations.bulk.stages import Counts, counts
from fulfillment.operations.bulk.working import work

__all__ = [
    "COLUMNS",
    "MOST",
    "ControlBulkJob",
    "Counts",
    "ForMany",
    "Listing",
    "Progress",
    "ReleaseIncident",
    "Selection",
    "Stage",
    "StartBulkJob",
    "Terms",
    "Wanted",
    "control",
    "control_request",
    "counts",
    "draft",
    "exported",
    "job_of",
    "listings",
    "names_of",
    "offers",
    "open_approval",
    "progress_of",
    "register_listing",
    "register_way",
    "release",
    "rows_of",
    "start",
    "start_request",
    "wanted",
    "work",
    "worst_first",
]
