"""Addresses shared by several contacts. Keeps a hash of each address, not the address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.coercions import trimmed
from schedd.engine.contacts import Contacts, Reason
from schedd.store.contacts import Range
from schedd.store.tables import encoding_of
from schedproto.checks import CheckFinding

from .context import Inspection, finding, plural

_SILENT = (int(Reason.SUPPRESSED), int(Reason.OPTED_OUT))


@dataclass
class Addresses:
    """Hashes of the addresses of all contacts, collected chunk by chunk.

    ids, hashes: of eligible contacts, in the same order.   silent: hashes of addresses whose
    contact is suppressed or opted out.
    """

    ids: list[NDArray[np.int64]] = field(default_factory=list)
    hashes: list[NDArray[np.int64]] = field(default_factory=list)
    silent: list[NDArray[np.int64]] = field(default_factory=list)

    def add(
        self, connection: apsw.Connection, chunk: Range, contacts: Contacts, order: str
    ) -> None:
        """Read the addresses of a chunk.

        order: the ORDER BY clause of the chunk's group aggregates.
        """
        # An address with a line break is not valid, so it is not shared by eligible contacts.
        email = "CASE WHEN instr(email, char(10)) = 0 THEN email ELSE '' END"
        column = f"CAST(group_concat({email}, char(10){order}) AS BLOB)"
        [(block,)] = connection.execute(f"SELECT {column} FROM contacts WHERE {chunk.where('id')}")
        texts = (block or b"").decode(encoding_of(connection), "replace").lower().split("\n")
        if len(texts) != len(contacts.ids):
            return
        hashes = np.fromiter((hash(text.strip()) for text in texts), np.int64, len(texts))
        eligible = contacts.reason == Reason.OK
        self.ids.append(contacts.ids[eligible])
        self.hashes.append(hashes[eligible])
        silent = np.isin(contacts.reason, _SILENT) & (hashes != hash(""))
        self.silent.append(hashes[silent])

    def findings(self, inspection: Inspection) -> Iterator[CheckFinding]:
        """Yield addresses that eligible contacts share, with each other or with silent contacts."""
        ids = np.concatenate(self.ids) if self.ids else np.zeros(0, np.int64)
        hashes = np.concatenate(self.hashes) if self.hashes else np.zeros(0, np.int64)
        order = np.argsort(hashes, kind="stable")
        sorted_hashes = hashes[order]
        same = np.zeros(len(ids) + 1, np.bool_)
        same[1:-1] = sorted_hashes[1:] == sorted_hashes[:-1]
        shared = order[same[:-1] | same[1:]]
        if len(shared):
            count = len(np.unique(hashes[shared]))
            yield finding(
                "shared_email",
                f"{plural(len(shared), 'eligible contact')} share "
                f"{plural(count, 'address', 'addresses')}; each of these gets the e-mails of all "
                "its contacts.",
                table="contacts",
                column="email",
                count=len(shared),
                counts={"addresses": count},
                examples=_examples(inspection, ids[shared]),
            )
        silent = np.concatenate(self.silent) if self.silent else np.zeros(0, np.int64)
        also = np.flatnonzero(np.isin(hashes, silent))
        if len(also):
            yield finding(
                "shared_with_opted_out",
                f"{plural(len(also), 'eligible contact')} {'has' if len(also) == 1 else 'have'} "
                "the address of a contact that is suppressed or opted out.",
                table="contacts",
                column="email",
                count=len(also),
                examples=_examples(inspection, ids[also]),
            )


def _examples(inspection: Inspection, ids: NDArray[np.int64]) -> list[tuple[int, str]]:
    chosen = np.sort(ids)[:5]
    rows = inspection.values.rows(
        "carray(?) AS wanted CROSS JOIN contacts ON id = wanted.value",
        ["id", "email"],
        (apsw.carray(chosen),),
    )
    return [(row_id, trimmed(value)) for row_id, value in rows]
