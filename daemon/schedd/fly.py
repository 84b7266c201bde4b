"""Identity and price of a machine on Fly.

docs/FLY.md, section 8, has the environment variables. Elsewhere there is no identity, and a price
only if one is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schedproto import prices


@dataclass(frozen=True)
class Identity:
    """The machine that the daemon runs on."""

    app: str
    machine_id: str
    region: str
    size: str

    def fields(self) -> dict[str, str]:
        """Return it for a log line."""
        return {
            "app": self.app,
            "machine_id": self.machine_id,
            "region": self.region,
            "size": self.size,
        }


def identity(environment: Mapping[str, str], cpus: int) -> Identity | None:
    """Return the machine's identity, or None if this is not a machine on Fly."""
    app, machine_id = environment.get("FLY_APP_NAME"), environment.get("FLY_MACHINE_ID")
    if not app or not machine_id:
        return None
    memory = environment.get("FLY_VM_MEMORY_MB", "")
    size = prices.SIZES.get((cpus, int(memory)), "") if memory.isdigit() else ""
    return Identity(
        app,
        machine_id,
        environment.get("FLY_REGION", ""),
        size or f"{cpus} processors, {memory} MB",
    )


def price_per_s(here: Identity | None, set_per_hour: float | None) -> float | None:
    """Return US dollars a second: as set, else by size and region, else None."""
    if set_per_hour is not None:
        return set_per_hour / 3600
    return None if here is None else prices.per_second(here.size, here.region)
