"""Prices of a running machine by size and region, with their date and source.

Prices change: check https://fly.io/docs/about/pricing/ before you rely on them. The daemon
(`SCHEDD_PRICE_PER_HOUR`) and `schedctl cost` accept another price.
"""

from __future__ import annotations

#: The date of the prices and where they are from. The page's own sources (superfly/docs) leave the
#: table of machines to the site; the prices of volumes are in them (about/pricing, 2026-08-05).
AS_OF = "2025-08-19"
SOURCE = (
    "a copy of fly.io/docs/about/pricing of that day; "
    "volumes: superfly/docs about/pricing of 2026-08-05"
)

#: size -> region -> US dollars a second.
PER_SECOND: dict[str, dict[str, float]] = {
    "performance-8x": {
        "iad": 0.00009568,
        "ewr": 0.00009568,
        "ams": 0.3577 / 3600,
        "arn": 0.3577 / 3600,
    },
}
#: (processors, memory in MB) -> size
SIZES: dict[tuple[int, int], str] = {(8, 16_384): "performance-8x"}
#: US dollars for a GB and month (30 days) of a volume, whether or not its machine runs.
VOLUME_GB_MONTH = 0.15
DEFAULT_SIZE, DEFAULT_REGION = "performance-8x", "iad"


def per_second(size: str, region: str) -> float | None:
    """Return the price of a size in a region, in US dollars a second, None if it is not known."""
    return PER_SECOND.get(size, {}).get(region)
