"""Reading of contacts, chunk by chunk, as columns (docs/DATABASE.md, "Read"; rules, section 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine import zips
from schedd.engine.calendar import NONE, Ordinals
from schedd.engine.coercions import boolean_of, contact_date, opted_out, trimmed
from schedd.engine.configuration import Configuration
from schedd.engine.contacts import Contacts, Reason, email_reason, zip_state
from schedd.engine.findings import MAX_EXAMPLES, Finding, Findings, shown

from . import blocks
from .blocks import MisalignedError
from .email_check import odd_emails
from .odd_values import Dictionary, Learned, OddValues, octets, paired
from .schema import Schema
from .tables import quoted

# The flags of a contact, as one number. The values of an odd contact are read one by one. A new
# status is one that has no number yet.
_SUPPRESSED, _FAILED, _OPTED_OUT, _ODD, _NEW_STATUS = 1, 2, 4, 8, 16
_FLAGS_BASE = 10
#: The code of a carrier that has no number yet.
_NEW = blocks.NUMBER_LIMIT - 1

#: Columns of which a missing one is read as NULL.
_COLUMNS = ("email", "zip_code", "birth_date", "effective_date", "status", "failed_underwriting")
_LONG_DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T]*"
_LONG_ZIP = "[0-9][0-9][0-9][0-9][0-9][- ][0-9][0-9][0-9][0-9]"
#: Formats of ten characters: where year, month and day are, and the separator.
_LAYOUTS: dict[str, tuple[tuple[int, int], int, int, str]] = {
    "YYYY/MM/DD": ((0, 4), 5, 8, "/"),
    "MM/DD/YYYY": ((6, 10), 0, 3, "/"),
    "MM-DD-YYYY": ((6, 10), 0, 3, "-"),
    "DD/MM/YYYY": ((6, 10), 3, 0, "/"),
    "DD.MM.YYYY": ((6, 10), 3, 0, "."),
}


@dataclass(frozen=True)
class Range:
    """The contacts of a chunk: ids `low` to below `high` (None: to the end).

    >>> Range(1, 32_769).where("id")
    'id >= 1 AND id < 32769'
    """

    low: int
    high: int | None

    def where(self, column: str) -> str:
        """Return the SQL condition; texts, which sort after all numbers, are in no chunk."""
        return f"{column} >= {self.low} AND {column} < " + (
            "''" if self.high is None else str(self.high)
        )


def chunk_starts(connection: apsw.Connection, size: int) -> list[int]:
    """Return the first id of each chunk of `size` contacts; empty without contacts."""
    starts = []
    row = connection.execute("SELECT min(id) FROM contacts").fetchone()
    while row is not None and row[0] is not None:
        starts.append(int(row[0]))
        row = connection.execute(
            "SELECT id FROM contacts WHERE id >= ? ORDER BY id LIMIT 1 OFFSET ?", (row[0], size)
        ).fetchone()
    return starts


def new_learned() -> dict[str, Learned]:
    """Return the empty dictionaries of a run that has not read any contacts."""
    return {"status": Learned(), "carrier": Learned()}


class ContactReader:
    """Reader of the contacts of one file.

    carriers: whether a campaign needs the carriers.   learned: the values of the columns `status`
    and `carrier` that readers of the same run have evaluated; this one adds to them.
    findings: values that could not be read so far.   unreadable_booleans: ids of the last chunk's
    contacts that have an unreadable boolean.

    Example:

        reader = ContactReader(connection, read_schema(connection), configuration, carriers=False)
        contacts = reader.read(Range(1, 32_769))
    """

    def __init__(
        self,
        connection: apsw.Connection,
        schema: Schema,
        configuration: Configuration,
        *,
        carriers: bool,
        learned: Mapping[str, Learned] | None = None,
    ) -> None:
        self._connection = connection
        self._configuration = configuration
        self._values = OddValues(connection)
        self.findings = Findings()
        self.unreadable_booleans: list[int] = []
        columns = schema.columns["contacts"]
        self._columns = {name: name if name in columns else "NULL" for name in _COLUMNS}
        self._opt_outs = [name for name in configuration.opt_out_columns if name in columns]
        #: The ORDER BY clause of group aggregates, if the table is not in the order of the ids.
        self._order = "" if schema.ordered_contacts else " ORDER BY id"
        learned = learned or new_learned()
        self._statuses = Dictionary(
            connection,
            "run_contact_status",
            self._columns["status"],
            self._evaluate_status,
            learned["status"],
        )

        names = [name for name in ("carrier", "current_carrier") if name in columns]
        self._carrier = names[0] if carriers and names else None
        self._carriers = learned["carrier"].names
        self._carrier_numbers = {
            name: number for number, name in enumerate(self._carriers, start=1)
        }
        if self._carrier is not None:
            self._carrier_codes = Dictionary(
                connection, "run_carrier", self._carrier, self._evaluate_carrier, learned["carrier"]
            )

    def _octets(self, characters: int) -> int:
        return octets(self._connection, characters)

    def _evaluate_status(self, value: Any) -> int:
        """Return 0 for an active status, else `_SUPPRESSED`."""
        status = trimmed(value).lower()
        return 0 if not status or status in self._configuration.active_statuses else _SUPPRESSED

    def _evaluate_carrier(self, value: Any) -> int:
        """Return the number of a carrier, from 1; 0 for none.

        Names that differ only in case or blanks share a number.
        """
        name = trimmed(value).casefold()
        if name and name not in self._carrier_numbers:
            self._carriers.append(name)
            self._carrier_numbers[name] = len(self._carriers)
        return self._carrier_numbers.get(name, 0)

    def read(self, chunk: Range) -> Contacts:
        """Return the contacts of a chunk, in the order of their ids. Raises `apsw.Error`."""
        self.unreadable_booleans = []
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
        if high - low >= blocks.NUMBER_LIMIT:
            raise MisalignedError
        dense = high - low + 1 == count
        row = self._blocks(where, low, dense=dense)
        flags, clean = blocks.Block(row[5], count, 2).number(0, 2)
        if not clean.all():
            raise MisalignedError
        flags -= _FLAGS_BASE
        ids = (
            np.arange(low, high + 1, dtype=np.int64)
            if dense
            else blocks.numbers(row[0], count) + low
        )
        self._read_new_statuses(ids, flags)
        birth, odd_birth = self._dates(row[1], count)
        effective, odd_effective = self._dates(row[2], count)
        state, zip_reason, odd_zip = _zips(row[3], count)
        odd = (
            odd_birth
            | odd_effective
            | odd_zip
            | self._odd_emails(row[4], count)
            | ((flags & _ODD) != 0)
        )
        reason = np.where((flags & _OPTED_OUT) != 0, int(Reason.OPTED_OUT), zip_reason)
        reason = np.where((flags & _SUPPRESSED) != 0, int(Reason.SUPPRESSED), reason)
        contacts = Contacts(
            ids=ids,
            reason=reason.astype(np.int8),
            state=state,
            birth=birth,
            effective=effective,
            invalid_birth=np.zeros(count, np.bool_),
            invalid_effective=np.zeros(count, np.bool_),
            failed_underwriting=(flags & _FAILED) != 0,
            carrier=np.full(count, -1, np.int32),
            carriers=[],
        )
        self._evaluate(contacts, np.flatnonzero(odd))
        self._read_carriers(contacts, where)
        return contacts

    def _read_new_statuses(self, ids: NDArray[np.int64], flags: NDArray[np.int64]) -> None:
        """Set, in place, the flags of contacts whose status has no number yet."""
        new = np.flatnonzero(flags & _NEW_STATUS)
        if not len(new):
            return
        source = "carray(?) AS wanted CROSS JOIN contacts ON id = wanted.value"
        bindings = (apsw.carray(np.ascontiguousarray(ids[new])),)
        self._statuses.learn(source, bindings)
        [(block,)] = self._connection.execute(
            f"SELECT {blocks.number(self._statuses.number(0))} FROM {source}", bindings
        )
        flags[new] = (flags[new] & ~_NEW_STATUS) | blocks.numbers(block, len(new))

    def _blocks(self, where: str, low: int, *, dense: bool) -> Any:
        """Return a chunk's blocks of ids, birth and effective dates, ZIPs, addresses, and flags."""
        order = self._order
        address = self._columns["email"]
        # A line break separates addresses in the block. An address with one is read separately.
        email = f"CASE WHEN instr({address}, char(10)) = 0 THEN {address} ELSE '' END"
        columns = [
            "NULL" if dense else blocks.number(f"id - {low}", order),
            self._fixed_date("birth_date", order),
            self._fixed_date("effective_date", order),
            blocks.text(_fixed_zip(self._columns["zip_code"], self._octets(5)), order),
            f"CAST(group_concat({email}, char(10){order}) AS BLOB)",
            blocks.text(self._flags(), order),
        ]
        [row] = self._connection.execute(f"SELECT {', '.join(columns)} FROM contacts WHERE {where}")
        return row

    def _odd_emails(self, block: bytes | None, count: int) -> NDArray[np.bool_]:
        block = block or b""
        return odd_emails(block if self._octets(1) == 1 else blocks.ascii_of(block), count)

    def _fixed_date(self, name: str, order: str) -> str:
        """Return the SQL of a block of dates of ten characters; others become tildes."""
        column = self._columns[name]
        is_short = f"typeof({column}) = 'text' AND octet_length({column}) = {self._octets(10)}"
        cases = [f"WHEN {is_short} THEN {column}", f"WHEN {column} IS NULL THEN '{' ' * 10}'"]
        if "YYYY-MM-DD" in self._configuration.date_formats:
            # Many programs write dates with a time. In the block, they need no separate reading.
            cases.append(f"WHEN {column} GLOB '{_LONG_DATE}' THEN substr({column}, 1, 10)")
        return blocks.text(f"CASE {' '.join(cases)} ELSE '{'~' * 10}' END", order)

    def _flags(self) -> str:
        """Return the SQL of the flags of a contact as a number of two digits."""
        # Compared as bytes: the column may have a collation that this program does not know.
        status = f"{self._columns['status']} COLLATE BINARY"
        failed = f"{self._columns['failed_underwriting']} COLLATE BINARY"
        active = [
            name
            for name in self._configuration.active_statuses
            if name.isascii() and "'" not in name
        ]
        plain = ", ".join(f"'{name}'" for name in ("", *active))
        new = self._statuses.number(_NEW_STATUS)
        parts = [
            f"CASE WHEN {status} IS NULL OR {status} IN ({plain}) THEN 0 ELSE {new} END",
            _flag(failed, f"{failed} IS 1", _FAILED),
        ]
        for name in self._opt_outs:
            column = f"{quoted(name)} COLLATE BINARY"
            is_set = f"{quoted(name)} GLOB '[1-9]*'" if name.endswith("_at") else f"{column} IS 1"
            parts.append(_flag(column, is_set, _OPTED_OUT))
        return f"{_FLAGS_BASE} + ({' | '.join(parts)})"

    def _dates(self, block: bytes | None, count: int) -> tuple[Ordinals, NDArray[np.bool_]]:
        """Return the ordinals of dates, and which dates have to be read one by one."""
        texts = blocks.Block(block, count, 10)
        ordinals = np.full(count, NONE, np.int32)
        unread = ~texts.blank()
        for name in self._configuration.date_formats:
            if name == "YYYY-MM-DD":
                found, real = texts.dates()
            elif name in _LAYOUTS and unread.any():
                found, real = texts.dates_of(*_LAYOUTS[name])
            else:
                continue
            ordinals = np.where(real & unread, found, ordinals)
            unread &= ~real
        return ordinals, unread

    def _by_value(self, where: str) -> Contacts:
        """Return the contacts of a chunk, read value by value."""
        rows = self._connection.execute(
            f"SELECT id FROM contacts WHERE {where} ORDER BY id"
        ).fetchall()
        count = len(rows)
        contacts = Contacts(
            ids=np.array([row[0] for row in rows], np.int64),
            reason=np.zeros(count, np.int8),
            state=np.full(count, zips.UNKNOWN, np.int8),
            birth=np.full(count, NONE, np.int32),
            effective=np.full(count, NONE, np.int32),
            invalid_birth=np.zeros(count, np.bool_),
            invalid_effective=np.zeros(count, np.bool_),
            failed_underwriting=np.zeros(count, np.bool_),
            carrier=np.full(count, -1, np.int32),
            carriers=[],
        )
        self._evaluate(contacts, np.arange(count))
        self._read_carriers(contacts, where)
        return contacts

    def _evaluate(self, contacts: Contacts, odd: NDArray[Any]) -> None:
        """Read some contacts value by value, in place. odd: their indices, ascending."""
        if not len(odd):
            return
        formats = self._configuration.date_formats
        unreadable = _Unreadable(self.findings)
        names = [*self._columns.values(), *map(quoted, self._opt_outs)]
        rows = self._values.rows(
            "carray(?) AS wanted CROSS JOIN contacts ON id = wanted.value",
            names,
            (apsw.carray(np.ascontiguousarray(contacts.ids[odd])),),
        )
        for index, row in paired(odd.tolist(), rows):
            email, zip_value, birth, effective, status, failed, *opt_outs = row
            contact_id = contacts.ids[index]
            contacts.birth[index], readable = contact_date(birth, formats)
            contacts.invalid_birth[index] = not readable
            if not readable:
                unreadable.note("unreadable_date", "birth_date", contact_id, birth)
            contacts.effective[index], readable = contact_date(effective, formats)
            contacts.invalid_effective[index] = not readable
            if not readable:
                unreadable.note("unreadable_date", "effective_date", contact_id, effective)

            truth = boolean_of(failed)
            contacts.failed_underwriting[index] = failed is not None and truth is not False
            if failed is not None and truth is None:
                unreadable.note("unreadable_boolean", "failed_underwriting", contact_id, failed)
                self.unreadable_booleans.append(int(contact_id))
            for name, value in zip(self._opt_outs, opt_outs, strict=True):
                if value is not None and not name.endswith("_at") and boolean_of(value) is None:
                    unreadable.note("unreadable_boolean", name, contact_id, value)
                    self.unreadable_booleans.append(int(contact_id))

            zip_reason, contacts.state[index] = zip_state(zip_value)
            if self._evaluate_status(status):
                contacts.reason[index] = Reason.SUPPRESSED
            elif any(map(opted_out, self._opt_outs, opt_outs)):
                contacts.reason[index] = Reason.OPTED_OUT
            else:
                contacts.reason[index] = email_reason(email) or zip_reason
        unreadable.close()

    def _read_carriers(self, contacts: Contacts, where: str) -> None:
        if self._carrier is None:
            return
        if not self._carriers:
            self._carrier_codes.learn(f"contacts WHERE {where}")
        codes = self._read_carrier_codes(where, len(contacts.ids))
        if (codes == _NEW).any():
            self._carrier_codes.learn(f"contacts WHERE {where}")
            codes = self._read_carrier_codes(where, len(contacts.ids))
        contacts.carriers = self._carriers
        contacts.carrier = (codes - 1).astype(np.int32)

    def _read_carrier_codes(self, where: str, count: int) -> NDArray[np.int64]:
        """Return each contact's carrier number: 0 for none, `_NEW` for a carrier without number."""
        code = (
            f"CASE WHEN {self._carrier} IS NULL THEN 0 ELSE {self._carrier_codes.number(_NEW)} END"
        )
        [(block,)] = self._connection.execute(
            f"SELECT {blocks.number(code, self._order)} FROM contacts WHERE {where}"
        )
        return blocks.numbers(block, count)


class _Unreadable:
    """Counter of unreadable values of rows in the order of their ids, with the first examples."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._found: dict[tuple[str, str], Finding] = {}

    def note(self, code: str, column: str, contact_id: np.int64, value: Any) -> None:
        found = self._found.setdefault((code, column), Finding(code, "contacts", column))
        found.count += 1
        if found.count <= MAX_EXAMPLES:
            found.examples.append((int(contact_id), shown(value)))

    def close(self) -> None:
        self._findings.extend(self._found.values())


def _flag(column: str, is_set: str, flag: int) -> str:
    """Return the SQL of a flag: 0 for NULL and 0, `flag` if the condition holds, else `_ODD`."""
    is_not_set = f"{column} IS NULL OR {column} IS 0"
    return f"CASE WHEN {is_not_set} THEN 0 WHEN {is_set} THEN {flag} ELSE {_ODD} END"


def _fixed_zip(column: str, octets: int) -> str:
    """Return the SQL of a ZIP as five characters, also of one with nine digits or a number.

    octets: the number of bytes of five characters. Other values become tildes.
    """
    is_text = f"typeof({column}) = 'text'"
    number = f"CAST({column} AS INTEGER)"
    in_range = f"typeof({column}) IN ('integer', 'real') AND {column} BETWEEN 0 AND 99999"
    return (
        f"CASE WHEN {is_text} AND octet_length({column}) = {octets} THEN {column} "
        f"WHEN {column} IS NULL THEN '     ' "
        f"WHEN {in_range} AND {column} = {number} THEN substr(100000 + {number}, 2) "
        f"WHEN {is_text} AND {column} GLOB '{_LONG_ZIP}' THEN substr({column}, 1, 5) "
        "ELSE '~~~~~' END"
    )


def _zips(
    block: bytes | None, count: int
) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.bool_]]:
    """Return states, reasons, and which ZIPs have to be read one by one."""
    texts = blocks.Block(block, count, 5)
    codes, clean = texts.number(0, 5)
    state = zips.state_of(np.where(clean, codes, 0).astype(np.int32))
    state[~clean] = zips.UNKNOWN
    blank = texts.blank()
    reason = np.where(state == zips.UNKNOWN, int(Reason.UNKNOWN_ZIP), int(Reason.OK)).astype(
        np.int8
    )
    reason[blank] = Reason.MISSING_ZIP
    return state, reason, ~(clean | blank)
