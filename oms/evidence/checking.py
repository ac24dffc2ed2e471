"""Checking a file of evidence: without a database, by the file and the key alone. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from fulfillment.audit import keys
from fulfillment.engine.work import chain
from oms.evidence.packing import FORMAT, MANIFEST

_CHAIN = "tables/fulfillment_transition.json"
_SEALS = "tables/fulfillment_auditseal.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a file says of itself, and what is wrong with it."""

    order: str
    taken_at: str
    taken_by: str
    rows: int
    """Of the audit trail."""
    seals: int
    faults: Sequence[str]


def check(*, file: IO[bytes], audit_keys: Sequence[str]) -> Checked:
    """Every file there as the manifest lists it, the manifest sealed, the trail unbroken, and as
    the seals have seen it. A file that is no evidence has faults as well."""
    try:
        with zipfile.ZipFile(file) as pack:
            manifest = json.loads(pack.read(MANIFEST))
            if manifest.get("format") != FORMAT:
                raise ValueError(f"its format is {manifest.get('format')!r}, not {FORMAT!r}")
            known = keys.by_id(audit_keys)
            faults = list(_files(pack, manifest, known))
            trail = json.loads(pack.read(_CHAIN))
            seals = json.loads(pack.read(_SEALS))
            faults += _trail(trail)
            faults += _sealed(pack, manifest["fulfillment_id"], trail, seals, known)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError) as error:
        return Checked(
            order="",
            taken_at="",
            taken_by="",
            rows=0,
            seals=0,
            faults=[f"It is no evidence, or not all of it: {error}."],
        )
    return Checked(
        order=manifest["order"],
        taken_at=manifest["taken_at"],
        taken_by=manifest["taken_by"],
        rows=len(trail),
        seals=len(seals),
        faults=faults,
    )


def _files(
    pack: zipfile.ZipFile, manifest: Mapping[str, Any], known: Mapping[str, str]
) -> Iterator[str]:
    document = {name: value for name, value in manifest.items() if name != "seal"}
    key = known.get(manifest["key_id"])
    if key is None:
        yield (
            f"It was sealed with the key {manifest['key_id']}, which OMS_AUDIT_KEY does not hold: "
            "who has made it can't be told."
        )
    elif not keys.holds(key=key, document=document, sealed=manifest["seal"]):
        yield f"{MANIFEST} is not as it was written, or was made without the key."
    there = [name for name in pack.namelist() if name != MANIFEST]
    for name in sorted(set(there) - manifest["files"].keys()):
        yield f"{name} was added."
    if len(set(there)) < len(there):
        yield "It holds two files of one name."
    for name, digest in manifest["files"].items():
        if name not in there:
            yield f"{name} is missing."
        elif not hmac.compare_digest(_sha256(pack, name), digest):
            yield f"{name} is not as it was written."


def _sha256(pack: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    with pack.open(name) as member:
        while chunk := member.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _trail(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    previous = ""
    for number, row in enumerate(rows, start=1):
        expected = chain.link(
            previous=previous,
            sequence=number,
            details=row["details"],
            occurred_at=datetime.fromisoformat(row["occurred_at"]),
            **{
                name: row[name]
                for name in (
                    *("entity", "entity_id", "name", "from_state", "to_state", "actor", "cause"),
                )
            },
        )
        if (row["sequence"], row["hash"]) != (number, expected):
            yield f"Row {number} of the audit trail is not as it was written, or is missing."
            return
        previous = row["hash"]


def _sealed(
    pack: zipfile.ZipFile,
    fulfillment_id: int,
    trail: Sequence[Mapping[str, Any]],
    seals: Sequence[Mapping[str, Any]],
    known: Mapping[str, str],
) -> Iterator[str]:
    hashes = {row["sequence"]: row["hash"] for row in trail}
    for seal in seals:
        document = {name: value for name, value in seal.items() if name != "seal"}
        key = known.get(seal["key_id"])
        if key is None:
            yield f"Seal {seal['number']} was made with a key that OMS_AUDIT_KEY does not hold."
        elif not keys.holds(key=key, document=document, sealed=seal["seal"]):
            yield f"Seal {seal['number']} is not as it was made, or was made without the key."
        told = pack.read(f"seals/{seal['number']}.txt").decode()
        if hashlib.sha256(told.encode()).hexdigest() != seal["digest"]:
            yield f"seals/{seal['number']}.txt is not what seal {seal['number']} was made over."
        for line in told.split("\n"):
            if line.startswith(f"chain {fulfillment_id} "):
                _, _, sequence, digest = line.split(" ")
                if hashes.get(int(sequence)) != digest:
                    yield (
                        f"Seal {seal['number']} has seen another row {sequence} of the audit trail."
                    )
