"""The launcher for an address at which a daemon is already up."""

from __future__ import annotations


class StaticLauncher:
    """Knows an endpoint and starts nothing.

    Example:

        endpoint = await StaticLauncher("tcp://[::1]:7300").ensure()  # "tcp://[::1]:7300"
    """

    can_start = False
    starting_s = 0.0

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    async def ensure(self) -> str:
        """Return the endpoint."""
        return self.endpoint
