"""ZIP codes and their generated table."""

from __future__ import annotations

import pytest

from schedd.engine import states
from schedd.engine.contacts import (
    Reason,
    zip_state,
)
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("value", "reason", "state"),
    [
        ("90210", Reason.OK, "CA"),
        (" 90210 ", Reason.OK, "CA"),
        ("90210-1234", Reason.OK, "CA"),
        ("90210-12", Reason.UNKNOWN_ZIP, None),
        (501, Reason.OK, "NY"),
        ("501", Reason.OK, "NY"),
        (90210, Reason.OK, "CA"),
        (90210.0, Reason.OK, "CA"),
        ("90210.0", Reason.OK, "CA"),
        ("'00501", Reason.OK, "NY"),
        ('="00501"', Reason.OK, "NY"),
        ("902101234", Reason.OK, "CA"),
        ("5011234", Reason.UNKNOWN_ZIP, None),
        ("90210 1234", Reason.OK, "CA"),
        ("90210.5", Reason.UNKNOWN_ZIP, None),
        ("\ufeff90210\u200b\0", Reason.OK, "CA"),
        (-501, Reason.UNKNOWN_ZIP, None),
        ("99999", Reason.UNKNOWN_ZIP, None),
        ("", Reason.MISSING_ZIP, None),
        (None, Reason.MISSING_ZIP, None),
        ("٩٠٢١٠", Reason.UNKNOWN_ZIP, None),
    ],
)
def test_zips(value: object, reason: Reason, state: str | None) -> None:
    """A ZIP may be short, long, a number or wrapped by a spreadsheet (section 1).

    Other forms are unknown.
    """
    found, number = zip_state(value)
    assert found == reason
    assert (states.STATES[number] if number >= 0 else None) == state


def test_zip_table_is_current() -> None:
    """The generated table is what the generator makes of the package that the rules name."""
    import importlib.util

    root = ROOT
    spec = importlib.util.spec_from_file_location(
        "make_zip_table", root / "tools" / "make_zip_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text() == module.render()
