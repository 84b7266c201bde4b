"""The states' codes and numbers (rules, section 1), without the table of ZIP codes."""

from __future__ import annotations

from .zipdata import STATES as _STATES

#: State codes; the index is the state's number everywhere in the engine.
STATES: tuple[str, ...] = tuple(_STATES.split())
STATE_INDEX: dict[str, int] = {state: index for index, state in enumerate(STATES)}

#: English names, upper-case -> code (rules, section 7).
STATE_NAMES: dict[str, str] = {
    name.upper(): code
    for code, name in (
        line.split(" ", 1)
        for line in """\
AL Alabama
AK Alaska
AZ Arizona
AR Arkansas
CA California
CO Colorado
CT Connecticut
DE Delaware
DC District of Columbia
FL Florida
GA Georgia
HI Hawaii
ID Idaho
IL Illinois
IN Indiana
IA Iowa
KS Kansas
KY Kentucky
LA Louisiana
ME Maine
MD Maryland
MA Massachusetts
MI Michigan
MN Minnesota
MS Mississippi
MO Missouri
MT Montana
NE Nebraska
NV Nevada
NH New Hampshire
NJ New Jersey
NM New Mexico
NY New York
NC North Carolina
ND North Dakota
OH Ohio
OK Oklahoma
OR Oregon
PA Pennsylvania
RI Rhode Island
SC South Carolina
SD South Dakota
TN Tennessee
TX Texas
UT Utah
VT Vermont
VA Virginia
WA Washington
WV West Virginia
WI Wisconsin
WY Wyoming
AS American Samoa
GU Guam
MP Northern Mariana Islands
PR Puerto Rico
VI Virgin Islands
VI U.S. Virgin Islands
VI US Virgin Islands
VI United States Virgin Islands
FM Micronesia
FM Federated States of Micronesia
MH Marshall Islands
PW Palau
AA Armed Forces Americas
AE Armed Forces Europe
AP Armed Forces Pacific""".splitlines()
    )
}
