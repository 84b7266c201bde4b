"""A daemon over a data folder, as for the tests of the server."""

from server.conftest import daemons, data

__all__ = ["daemons", "data"]
