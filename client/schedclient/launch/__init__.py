"""Launchers: what makes sure that a daemon is there before a client talks to it.

`static` connects to an address that is up; `fly` starts a machine on Fly; `local` starts `schedd`
as a child over a data folder.
"""

from __future__ import annotations

from typing import Protocol

from schedclient.settings import ClientSettings


class Launcher(Protocol):
    """Makes sure that a daemon is there."""

    #: Seconds that `ensure` has spent in all on starting something that takes its time; a call's
    #: timeout does not count them. Every single start is bounded by the launcher.
    starting_s: float

    async def ensure(self) -> str:
        """Return the endpoint of a daemon that was up a moment ago, starting one where that is possible.

        Called before each connection, so also when a daemon has gone away meanwhile. Raises
        `LaunchError`.
        """

    @property
    def can_start(self) -> bool:
        """Return whether a daemon that has gone is started again."""


def launcher_for(settings: ClientSettings) -> Launcher:
    """Return the launcher that the settings ask for; each is loaded only where it is needed."""
    if settings.endpoint is not None:
        from .static import StaticLauncher  # noqa: PLC0415

        return StaticLauncher(settings.endpoint)
    if settings.fly is not None:
        from .fly import FlyLauncher  # noqa: PLC0415

        return FlyLauncher(settings.fly)
    from .local import LocalLauncher  # noqa: PLC0415

    return LocalLauncher(settings.data, settings.idle_timeout_s)
