"""Contacts of one chunk as columns (docs/DATABASE.md, "Read"; rules, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine import zips
from schedd.engine.calendar import NONE, Ordinals
from schedd.engine.contacts import (
    Contacts,
    Reason,
    date_of,
    email_reason,
    text_of,
    truth_of,
    zip_state,
)

from . import blocks
from .blocks import MisalignedError
from .schema import Schema

_ACTIVE, _FAILED, _ODD = 1, 2, 4
#: Stands for a carrier that has no number yet.
_NEW = blocks.NUMBER_LIMIT - 1
_NEWLINE, _AT = 10, ord("@")


@dataclass(frozen=True)
class Range:
    """The contacts of a chunk: ids `low` to below `high` (None: to the end)."""

    low: int
    high: int | None

    def where(self, column: str) -> str:
        """Return the SQL condition; texts, which sort behind all numbers, are in no chunk."""
        return f"{column} >= {self.low} AND {column} < " + ("''" if self.high is None else str(self.high))


def chunk_starts(connection: apsw.Connection, size: int) -> list[int]:
    """Return the first id of each chunk of `size` contacts; empty where there are none."""
    starts = []
    row = connection.execute("SELECT min(id) FROM contacts").fetchone()
    while row is not None and row[0] is not None:
        starts.append(int(row[0]))
        row = connection.execute(
            "SELECT id FROM contacts WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?", (row[0], size)
        ).fetchone()
    return starts


class ContactReader:
    """Reads contacts of one file. `carriers`: whether a campaign looks at them."""

    def __init__(self, connection: apsw.Connection, schema: Schema, carriers: bool) -> None:
        self._connection = connection
        present = schema.columns["contacts"]
        self._columns = {
            name: name if name in present else "NULL"
            for name in ("email", "zip_code", "birth_date", "effective_date", "status", "failed_underwriting")
        }
        names = [name for name in ("carrier", "current_carrier") if name in present]
        self._carrier = names[0] if carriers and names else None
        self._carriers: list[str] = []
        if self._carrier is not None:
            # Without types, so that a value is compared as what it is.
            connection.execute("CREATE TEMP TABLE run_carrier(name PRIMARY KEY, number) WITHOUT ROWID")

    def read(self, chunk: Range) -> Contacts:
        """Return the contacts of a chunk."""
        where = chunk.where("id")
        [(count, low, high)] = self._connection.execute(
            f"SELECT count(*), min(id), max(id) FROM contacts WHERE {where}"
        )
        if not count:
            return self._by_value(where)
        try:
            return self._by_block(where, count, low, high)
        except MisalignedError:
            return self._by_value(where)

    def _by_block(self, where: str, count: int, low: int, high: int) -> Contacts:
        c = self._columns
        if high - low >= blocks.NUMBER_LIMIT:
            raise MisalignedError
        dense = high - low + 1 == count
        ids_sql = "NULL" if dense else blocks.number(f"id - {low}")

        def fixed(column: str, width: int) -> str:
            return blocks.text(
                f"CASE WHEN typeof({column}) = 'text' AND octet_length({column}) = {width} THEN {column} "
                f"WHEN {column} IS NULL THEN '{' ' * width}' ELSE '{'~' * width}' END"
            )

        email = f"CASE WHEN {c['email']} GLOB '?*@?*.?*' THEN {c['email']} ELSE '' END"
        failed = c["failed_underwriting"]
        flags = (
            f"({c['status']} IS NULL OR {c['status']} = '' OR {c['status']} = 'active' COLLATE NOCASE) + "
            f"CASE WHEN {failed} IS NULL OR {failed} IS 0 THEN 0 "
            f"WHEN typeof({failed}) = 'integer' THEN {_FAILED} ELSE {_ODD} END"
        )
        [row] = self._connection.execute(
            f"SELECT {ids_sql}, {fixed(c['birth_date'], 10)}, {fixed(c['effective_date'], 10)}, "
            f"{fixed(c['zip_code'], 5)}, CAST(group_concat({email}, char(10)) AS BLOB), {blocks.text(flags)} "
            f"FROM contacts WHERE {where}"
        )
        ids = np.arange(low, high + 1, dtype=np.int64) if dense else blocks.numbers(row[0], count) + low
        birth, odd_birth = _dates(row[1], count)
        effective, odd_effective = _dates(row[2], count)
        state, zip_reason, odd_zip = _zips(row[3], count)
        odd_email = _odd_emails(row[4], count)
        flag = blocks.Block(row[5], count, 1).column(0) - np.uint8(48)
        reason = np.where((flag & _ACTIVE) == 0, int(Reason.SUPPRESSED), zip_reason).astype(np.int8)
        contacts = Contacts(
            ids=ids,
            reason=reason,
            state=state,
            birth=birth,
            effective=effective,
            invalid_birth=np.zeros(count, np.bool_),
            invalid_effective=np.zeros(count, np.bool_),
            failed_underwriting=(flag & _FAILED) != 0,
            carrier=np.full(count, -1, np.int32),
            carriers=[],
        )
        odd = np.flatnonzero(odd_birth | odd_effective | odd_zip | odd_email | ((flag & _ODD) != 0))
        if len(odd):
            self._judge(contacts, odd)
        self._read_carriers(contacts, where)
        return contacts

    def _by_value(self, where: str) -> Contacts:
        """Return the contacts of a chunk whose values are too odd for blocks."""
        rows = self._connection.execute(
            f"SELECT id, ({self._columns['status']} IS NULL OR {self._columns['status']} = '' "
            f"OR {self._columns['status']} = 'active' COLLATE NOCASE) FROM contacts WHERE {where} ORDER BY id"
        ).fetchall()
        count = len(rows)
        active = np.array([bool(row[1]) for row in rows], np.bool_)
        contacts = Contacts(
            ids=np.array([row[0] for row in rows], np.int64),
            reason=np.where(active, int(Reason.OK), int(Reason.SUPPRESSED)).astype(np.int8),
            state=np.full(count, zips.UNKNOWN, np.int8),
            birth=np.full(count, NONE, np.int32),
            effective=np.full(count, NONE, np.int32),
            invalid_birth=np.zeros(count, np.bool_),
            invalid_effective=np.zeros(count, np.bool_),
            failed_underwriting=np.zeros(count, np.bool_),
            carrier=np.full(count, -1, np.int32),
            carriers=[],
        )
        self._judge(contacts, np.arange(count))
        self._read_carriers(contacts, where)
        return contacts

    def _judge(self, contacts: Contacts, odd: NDArray[Any]) -> None:
        """Judge some contacts value by value, in place."""
        if not len(odd):
            return
        c = self._columns
        rows = self._connection.execute(
            f"SELECT {c['birth_date']}, {c['effective_date']}, {c['zip_code']}, {c['email']}, "
            f"{c['failed_underwriting']} FROM carray(?) AS wanted CROSS JOIN contacts ON id = wanted.value",
            (apsw.carray(np.ascontiguousarray(contacts.ids[odd])),),
        )
        for index, (birth, effective, zip_code, email, failed) in zip(odd.tolist(), rows, strict=True):
            contacts.birth[index], contacts.invalid_birth[index] = date_of(birth)
            contacts.effective[index], contacts.invalid_effective[index] = date_of(effective)
            contacts.failed_underwriting[index] = truth_of(failed) or False
            zip_reason, contacts.state[index] = zip_state(zip_code)
            if contacts.reason[index] != Reason.SUPPRESSED:
                contacts.reason[index] = email_reason(email) or zip_reason

    def _read_carriers(self, contacts: Contacts, where: str) -> None:
        if self._carrier is None:
            return
        codes = self._carrier_codes(where, len(contacts.ids))
        if (codes == _NEW).any():
            self._learn_carriers(where)
            codes = self._carrier_codes(where, len(contacts.ids))
        contacts.carriers = self._carriers
        contacts.carrier = (codes - 1).astype(np.int32)

    def _carrier_codes(self, where: str, count: int) -> NDArray[np.int64]:
        """Return the number of each contact's carrier: 0 for none, `_NEW` for one that was not met yet."""
        known = f"(SELECT number FROM run_carrier WHERE name = {self._carrier})"
        code = f"coalesce({known}, CASE WHEN {self._carrier} IS NULL THEN 0 ELSE {_NEW} END)"
        [(block,)] = self._connection.execute(f"SELECT {blocks.number(code)} FROM contacts WHERE {where}")
        return blocks.numbers(block, count)

    def _learn_carriers(self, where: str) -> None:
        """Give the carriers of a chunk their numbers; names that differ in case or blanks alone share one."""
        values = self._connection.execute(
            f"SELECT DISTINCT +{self._carrier} COLLATE BINARY FROM contacts WHERE {where} AND {self._carrier} NOT NULL"
        ).fetchall()
        number = {name: place for place, name in enumerate(self._carriers, start=1)}
        rows = []
        for (value,) in values:
            name = text_of(value).strip().casefold()
            if name and name not in number:
                self._carriers.append(name)
                number[name] = len(self._carriers)
            rows.append((value, number.get(name, 0)))
        self._connection.executemany("INSERT OR IGNORE INTO run_carrier VALUES (?, ?)", rows)


def _dates(block: bytes | None, count: int) -> tuple[Ordinals, NDArray[np.bool_]]:
    """Return dates and which of them have to be looked at one by one."""
    texts = blocks.Block(block, count, 10)
    ordinals, real = texts.dates()
    return ordinals, ~(real | texts.blank())


def _zips(block: bytes | None, count: int) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.bool_]]:
    """Return states, reasons, and which have to be looked at one by one."""
    texts = blocks.Block(block, count, 5)
    codes, clean = texts.number(0, 5)
    state = zips.state_of(np.where(clean, codes, 0).astype(np.int32))
    state[~clean] = zips.UNKNOWN
    blank = texts.blank()
    reason = np.where(state == zips.UNKNOWN, int(Reason.UNKNOWN_ZIP), int(Reason.OK)).astype(np.int8)
    reason[blank] = Reason.MISSING_ZIP
    return state, reason, ~(clean | blank)


def _odd_emails(block: bytes | None, count: int) -> NDArray[np.bool_]:
    """Return which addresses are not plainly good: `something@something.something`, printable ASCII, one `@`."""
    text = np.frombuffer(block or b"", np.uint8)
    ends = np.flatnonzero(text == _NEWLINE)
    if len(ends) != count - 1:
        raise MisalignedError
    marks = np.searchsorted(np.flatnonzero(text == _AT), ends)
    marks = np.diff(marks, prepend=0, append=int((text == _AT).sum()))
    odd: NDArray[np.bool_] = marks != 1
    strange = np.flatnonzero(((text < 33) & (text != _NEWLINE)) | (text > 126))
    odd[np.searchsorted(ends, strange)] = True
    return odd
