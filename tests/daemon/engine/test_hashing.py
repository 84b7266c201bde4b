"""The hash against its published vectors."""

from __future__ import annotations

import json

import numpy as np

from schedd.engine.hashing import email_hash, mix64
from tests.support.plans import GOLDEN


def test_hash_vectors() -> None:
    """mix64 and h are those of the published vectors."""
    vectors = json.loads((GOLDEN / "vectors.json").read_text())
    for value, expected in vectors["mix64"]:
        assert int(mix64(np.array([value], np.uint64))[0]) == expected
    for vector in vectors["h"]:
        found = email_hash(np.array([vector["contact_id"]]), vector["salt"], vector["year"])
        assert int(found[0]) == vector["h"]
        assert int(found[0]) % 7 == vector["h_mod_7"]
