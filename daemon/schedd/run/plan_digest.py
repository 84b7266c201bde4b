"""The digest of a plan: equal for equal plans, for any chunks, processes, mode and plan before.

Each row becomes two 64-bit numbers that depend on all of its columns. The sums of both over all
rows, which do not depend on the order of the rows, are the digest. Two plans that differ by
accident have the same digest with a probability of 2**-128. The digest does not protect against
somebody who constructs plans; such a person can write to the file anyway.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha256
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar
from schedd.engine.configuration import Configuration
from schedd.engine.contacts import ISSUES
from schedd.engine.hashing import mix64
from schedd.engine.packing import unpack_kind
from schedd.engine.rows import FIXED_TYPES, SKIP_REASONS, Rows
from schedd.engine.run import Run
from schedproto import ErrorCode, SavedPlan, SchedulerError

from .chunk_data import IssueColumns, PlannedFollowUp, Sums
from .specification import PLAN_FORMAT

#: Makes the two numbers of a row different; arbitrary bits.
_SEEDS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_DATE_SHIFT = np.uint64(32)
_BITS_64 = (1 << 64) - 1
#: The number of types whose counts a refusal names.
_MAX_TYPES = 5


def add(*parts: Sums) -> Sums:
    """Return the sums of the rows of all parts together."""
    return sum(part[0] for part in parts) & _BITS_64, sum(part[1] for part in parts) & _BITS_64


def _value_sums(kind: str, values: Sequence[Any]) -> Sums:
    """Return the two numbers of a few values of any type."""
    digest = blake2b(msgspec.msgpack.encode((kind, values)), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def row_sums(
    run: Run, contact_ids: NDArray[np.int64], rows: Rows, kinds: NDArray[np.int64]
) -> Sums:
    """Return the sums of a chunk's planned rows, follow-ups aside.

    contact_ids: of the chunk's people.   kinds: of the rows, as `packing.pack_kinds`.
    """
    if not len(rows):
        return 0, 0
    tables = np.zeros((2, len(run.classes) * len(SKIP_REASONS)), np.uint64)
    for kind in np.flatnonzero(np.bincount(kinds)).tolist():
        tables[:, kind] = _value_sums("row", _kind_values(run, *unpack_kind(kind)))
    dates = (rows.date - calendar.FIRST).astype(np.uint64) << _DATE_SHIFT
    dates |= (rows.event - calendar.FIRST).astype(np.uint64)
    first, second = (
        _sum(mix64(contact_ids.astype(np.uint64) ^ seed)[rows.contact_index] ^ dates ^ table[kinds])
        for seed, table in zip(_SEEDS, tables, strict=True)
    )
    return first, second


def _kind_values(run: Run, row_class: int, reason: int) -> list[Any]:
    """Return the columns that all rows of a class and a reason share."""
    classes = run.classes
    return [
        classes.types[classes.type_number[row_class]],
        run.configuration.send_time,
        SKIP_REASONS[reason],
        classes.priorities[row_class],
        None if row_class < len(FIXED_TYPES) else int(classes.instance[row_class]),
        classes.email_template[row_class],
        classes.sms_template[row_class],
    ]


def _sum(words: NDArray[np.uint64]) -> int:
    return int(mix64(words).sum(dtype=np.uint64))


def followup_sums(send_time: str, planned: Iterable[PlannedFollowUp]) -> Sums:
    """Return the sums of planned follow-ups."""
    rows = ([send_time, *msgspec.structs.astuple(item.row)] for item in planned)
    return add((0, 0), *(_value_sums("followup", row) for row in rows))


def issue_sums(issues: IssueColumns) -> Sums:
    """Return the sums of the issues of a chunk's contacts."""
    if not len(issues.contact_id):
        return 0, 0
    tables = np.array([_value_sums("issue", [reason]) for reason in ISSUES], np.uint64).T
    first, second = (
        _sum(mix64(issues.contact_id.astype(np.uint64) ^ seed) ^ table[issues.kind])
        for seed, table in zip(_SEEDS, tables, strict=True)
    )
    return first, second


def text(sums: Sums, rows: int) -> str:
    """Return the digest of a plan as text."""
    return sha256(f"plan {PLAN_FORMAT} {rows} {sums[0]:016x}{sums[1]:016x}".encode()).hexdigest()


def settings_digest(configuration: Configuration) -> str:
    """Return a digest of all settings that a plan depends on."""
    values = dataclasses.asdict(configuration)
    plain = {name: value for name, value in values.items() if not name.startswith("guard_")}
    return sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def check_expected(expected: SavedPlan, plan: SavedPlan) -> None:
    """Raise `SchedulerError` (`plan_differs`) unless a plan is the one that was reviewed."""
    if expected.digest == plan.digest:
        return
    found = differences(expected, plan)
    same = (
        f"both have {plan.rows:,} rows, "
        "but some differ in contact, date, reason, priority or template"
    )
    raise SchedulerError(
        ErrorCode.PLAN_DIFFERS,
        "the plan was not written because it differs from the reviewed one: "
        + ("; ".join(f"{name}: {then} then, {now} now" for name, then, now in found) or same),
        hint=f"Review the new plan with `schedctl preview {plan.organization} --save FILE` "
        "and submit that one.",
        details={name: f"{then} -> {now}" for name, then, now in found},
    )


def differences(expected: SavedPlan, plan: SavedPlan) -> list[tuple[str, str, str]]:
    """Return the numbers that differ between two plans as (name, then, now)."""
    versions: list[str] = [
        "the daemon's defaults" if p.config_version is None else f"version {p.config_version}"
        for p in (expected, plan)
    ]
    if versions[0] == versions[1] and expected.settings != plan.settings:
        versions = [f"{versions[0]} ({p.settings})" for p in (expected, plan)]
    pairs: list[tuple[str, Any, Any]] = [
        ("date of the run", expected.as_of, plan.as_of),
        ("configuration", versions[0], versions[1]),
        ("contacts", expected.contacts, plan.contacts),
        ("eligible contacts", expected.contacts_eligible, plan.contacts_eligible),
        ("rows", expected.rows, plan.rows),
    ]
    by_type = [
        (
            f"{kind} {status}",
            expected.counts.get(kind, {}).get(status, 0),
            plan.counts.get(kind, {}).get(status, 0),
        )
        for kind in sorted(expected.counts.keys() | plan.counts.keys())
        for status in ("pre-scheduled", "skipped")
    ]
    pairs += sorted(
        (pair for pair in by_type if pair[1] != pair[2]), key=lambda p: (-abs(p[1] - p[2]), p[0])
    )[:_MAX_TYPES]
    pairs += [
        (f"contacts with {reason}", expected.issues.get(reason, 0), plan.issues.get(reason, 0))
        for reason in sorted(expected.issues.keys() | plan.issues.keys())
    ]
    return [(name, _shown(then), _shown(now)) for name, then, now in pairs if then != now]


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
