"""Launchers: what makes sure that a daemon is there before a client talks to it.

`static` connects to an address that is up; `local` starts `schedd` as a child over a data folder.
"""

from __future__ import annotations

from typing import Protocol


class Launcher(Protocol):
    """Makes sure that a daemon is there."""

    async def ensure(self) -> str:
        """Return the endpoint of a daemon that was up a moment ago, starting one where that is possible.

        Called before each connection, so also when a daemon has gone away meanwhile. Raises `LaunchError`.
        """

    @property
    def can_start(self) -> bool:
        """Return whether a daemon that has gone is started again."""
