"""Writing the evidence of an order: one zip of JSON, sealed with the key of the audit trails."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import IO, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models import QuerySet

from fulfillment.actions import Action
from fulfillment.audit import keys
from fulfillment.audit.sealing import seal_new
from fulfillment.audit.verifying import snapshot
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize
from fulfillment.engine.store.database import cursor
from fulfillment.models import AuditSeal, Operation, SealedRow
from fulfillment.operations.records import now_of, reason_of
from fulfillment.operations.subjects import order_found
from oms.evidence.members import columns, members
from oms.evidence.timeline import timeline
from oms.models import Order

FORMAT = "evidence/1"
MANIFEST = "manifest.json"
_README = """Evidence about order {reference}
{line}
Taken {at} UTC by {actor}: {reason}

timeline.txt    what happened, in plain words and in sequence: begin here
tables/*.json   every row about this order, one file for each table of the database
seals/*.txt     what each seal has seen: one line for each order or log row, with its hash
manifest.json   the SHA-256 of every file here, and a seal over that list

How to check it. `manage.py evidence verify FILE`, with the key that the installation seals its
audit trails with (OMS_AUDIT_KEY), says whether every file is as it was written. It needs no
database. Without the key, `sha256sum` shows whether a file is the one that the manifest lists.

tables/fulfillment_transition.json is the audit trail. Each of its rows carries a hash over its
values and over the hash of the row before it, so no row can be changed, added or taken out without
changing all that follow. Once a minute the newest hash of every order was sealed with a key that is
not in the database (tables/fulfillment_auditseal.json): a trail that was written anew as a whole
does not fit the seals that have seen the old one. A line of seals/N.txt that begins with
"chain {fulfillment_id} " is what seal N has seen of this order: the number of the newest row, and
its hash. The SHA-256 of seals/N.txt is the digest of seal N.

Passwords, keys and secrets are left out.
"""


def take(*, reference: str, actor: Actor, reason: str, to: IO[bytes]) -> None:
    """Write the evidence about an order to a file, and record who has taken it, and why.

    Raises SubjectUnknown, Denied, ReasonMissing. Call it outside of any transaction.
    """
    found = order_found(name=reference)
    permit = authorize(actor=actor, action=Action.ORDER_EVIDENCE, context=found.context)
    reason = reason_of(reason)
    with transaction.atomic(), cursor() as raw:
        now = now_of(raw)
        Operation.objects.create(
            kind="take_evidence",
            subject=found.subject,
            actor=actor.name,
            reason=reason,
            authority=permit.authority,
            order_reference=reference,
            happened_at=now,
        )
    seal_new()  # What it shows is sealed; its own taking as well.
    with snapshot():
        order = Order.objects.select_related("fulfillment").get(reference=reference)
        _write(order, to=to, actor=actor.name, reason=reason, now=now)


def taken(*, reference: str, actor: Actor, reason: str) -> IO[bytes]:
    """The same in a file without a name, from its beginning. Raises as `take` does."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (whoever asks for it closes it)
    try:
        take(reference=reference, actor=actor, reason=reason, to=file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _write(order: Order, *, to: IO[bytes], actor: str, reason: str, now: datetime) -> None:
    digests: dict[str, str] = {}
    rows: dict[str, int] = {}
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as pack:

        def add(name: str, chunks: Iterable[str]) -> None:
            digest = hashlib.sha256()
            with pack.open(_entry(name, now), "w", force_zip64=True) as member:
                for chunk in chunks:
                    data = chunk.encode()
                    digest.update(data)
                    member.write(data)
            digests[name] = digest.hexdigest()

        at = now.astimezone(UTC)
        told = _README.format(
            reference=order.reference,
            line="=" * (21 + len(order.reference)),
            at=f"{at:%Y-%m-%d %H:%M:%S}",
            actor=actor,
            reason=reason,
            fulfillment_id=order.fulfillment_id,
        )
        add("README.txt", [told])
        add("timeline.txt", timeline(order))
        for table, found in members(order):
            name = f"tables/{table}.json"
            count = _Counted(found)
            add(name, count.document())
            rows[name] = count.rows
        for seal in next(found for table, found in members(order) if found.model is AuditSeal):
            add(f"seals/{seal.number}.txt", _sealed(seal))
        manifest = {
            "format": FORMAT,
            "order": order.reference,
            "fulfillment_id": order.fulfillment_id,
            "taken_at": at.isoformat(timespec="microseconds"),
            "taken_by": actor,
            "reason": reason,
            "files": dict(sorted(digests.items())),
            "rows": rows,
        }
        key = settings.OMS_AUDIT_KEYS[0]
        manifest["key_id"] = keys.key_id(key)
        sealed = {**manifest, "seal": keys.seal(key=key, document=manifest)}
        add(MANIFEST, [json.dumps(sealed, indent=2, ensure_ascii=False), "\n"])


def _entry(name: str, now: datetime) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=now.astimezone(UTC).timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


class _Counted:
    """Rows as a JSON list, one to a line, read as they are written."""

    def __init__(self, found: QuerySet[Any]) -> None:
        self._found = found
        self.rows = 0

    def document(self) -> Iterator[str]:
        names = columns(self._found.model)
        yield "["
        for row in self._found.iterator(chunk_size=500):
            yield ",\n" if self.rows else "\n"
            values = {name: getattr(row, name) for name in names}
            yield json.dumps(values, cls=_Encoder, ensure_ascii=False, sort_keys=True)
            self.rows += 1
        yield "\n]\n"


class _Encoder(DjangoJSONEncoder):
    def default(self, value: Any) -> Any:
        if isinstance(value, datetime):  # Django's leaves out microseconds.
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        return super().default(value)


def _sealed(seal: AuditSeal) -> Iterator[str]:
    """What the digest of a seal was made over, letter for letter."""
    rows = SealedRow.objects.filter(of=seal).order_by("kind", "row_id")
    first = True
    for kind, row_id, sequence, digest in rows.values_list(
        "kind", "row_id", "sequence", "digest"
    ).iterator(chunk_size=5000):
        yield f"{'' if first else chr(10)}{kind} {row_id} {sequence} {digest}"
        first = False
