"""ZIP codes and names of states (rules, sections 1 and 7)."""

from __future__ import annotations

import functools

import zipcodes

#: Lower-case English name -> code, of the states that ZIP codes belong to.
_NAMES = """
alabama AL, alaska AK, arizona AZ, arkansas AR, california CA, colorado CO, connecticut CT, delaware
DE, district of columbia DC, florida FL, georgia GA, hawaii HI, idaho ID, illinois IL, indiana IN,
iowa IA, kansas KS, kentucky KY, louisiana LA, maine ME, maryland MD, massachusetts MA, michigan MI,
minnesota MN, mississippi MS, missouri MO, montana MT, nebraska NE, nevada NV, new hampshire NH, new
jersey NJ, new mexico NM, new york NY, north carolina NC, north dakota ND, ohio OH, oklahoma OK,
oregon OR, pennsylvania PA, rhode island RI, south carolina SC, south dakota SD, tennessee TN, texas
TX, utah UT, vermont VT, virginia VA, washington WA, west virginia WV, wisconsin WI, wyoming WY,
puerto rico PR, guam GU, american samoa AS, northern mariana islands MP, virgin islands VI,
federated states of micronesia FM, marshall islands MH, palau PW
"""


@functools.cache
def zip_states() -> dict[str, str]:
    """Return ZIP -> state of the package `zipcodes`, all its entries."""
    return {entry["zip_code"]: entry["state"] for entry in zipcodes.list_all()}


@functools.cache
def state_codes() -> dict[str, str]:
    """Return lower-case code or English name -> code."""
    named = (entry.strip().rpartition(" ") for entry in _NAMES.replace("\n", " ").split(","))
    found = {name.strip(): code for name, _, code in named}
    return found | {code.lower(): code for code in zip_states().values()}
