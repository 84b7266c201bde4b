"""Launchers make sure that a daemon runs before a client connects.

`static` uses a known address; `fly` starts a machine on Fly; `local` starts `schedd` over a data
folder.
"""

from __future__ import annotations

from typing import Protocol

from schedclient.settings import ClientSettings


class Launcher(Protocol):
    """Makes sure that a daemon runs. A program may pass its own to a client.

    Example:

        client = Client(launcher=LocalLauncher(Path("/srv/data"), idle_timeout_s=60))
    """

    #: Seconds that `ensure` has spent in all on starting something that takes its time; a call's
    #: timeout does not count them. Every single start is bounded by the launcher.
    starting_s: float

    async def ensure(self) -> str:
        """Return the endpoint of a running daemon, starting one if possible.

        Called before each connection, so also after a daemon has exited. Raises `LaunchError`.
        """

    @property
    def can_start(self) -> bool:
        """Return whether `ensure` starts a daemon that has exited."""


def launcher_for(settings: ClientSettings) -> Launcher:
    """Return the launcher for the settings; each is loaded only if it is needed."""
    if settings.endpoint is not None:
        from .static import StaticLauncher  # noqa: PLC0415

        return StaticLauncher(settings.endpoint)
    if settings.fly is not None:
        from .fly import FlyLauncher  # noqa: PLC0415

        return FlyLauncher(settings.fly)
    from .local import LocalLauncher  # noqa: PLC0415

    return LocalLauncher(settings.data, settings.idle_timeout_s)
