"""Resolves names of machines on Fly's private network (docs/FLY.md, section 4)."""

from __future__ import annotations

import asyncio
import time

import dns.asyncresolver
import dns.exception
import dns.resolver

from schedclient.errors import LaunchError

#: Timeout of one query.
QUERY_S = 2.0
_PAUSE_S = 0.2


def machine_name(machine_id: str, app: str) -> str:
    """Return a machine's name; only started machines have an address under it."""
    return f"{machine_id}.vm.{app}.internal"


def _resolver(server: str | None) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(configure=server is None)
    except (dns.exception.DNSException, OSError) as error:
        raise LaunchError(
            f"no name server is configured on this machine: {error}",
            "Set SCHEDCTL_RESOLVER (on Fly: fdaa::3).",
        ) from None
    if server is not None:
        host, _, port = server.rpartition(":")
        resolver.nameservers = [host.strip("[]")]
        resolver.port = int(port)
    resolver.lifetime = QUERY_S
    resolver.cache = None
    return resolver


async def lookup(name: str, server: str | None) -> tuple[list[str], str]:
    """Query once: the IPv6 addresses of a name, and the reason if there are none.

    server: `[address]:port`.
    """
    try:
        answer = await _resolver(server).resolve(name, "AAAA", search=False)
    except dns.resolver.NXDOMAIN:
        return [], "no such name"
    except dns.resolver.NoAnswer:
        return [], "the name has no IPv6 address"
    except dns.exception.DNSException as error:
        return [], str(error) or type(error).__name__
    except OSError as error:
        return [], str(error)
    return [str(record) for record in answer], ""


async def address_of(
    machine_id: str, app: str, server: str | None, private_ip: str, timeout_s: float
) -> str:
    """Return the address of a started machine.

    The name is resolved first, as an address may change while the name stays. A new name may take
    a moment to be known. If it is not known in time, the address of the API (`private_ip`) is used.
    """
    name, deadline = machine_name(machine_id, app), time.monotonic() + timeout_s
    while True:
        addresses, why = await lookup(name, server)
        if addresses:
            return addresses[0]
        if time.monotonic() + _PAUSE_S >= deadline:
            break
        await asyncio.sleep(_PAUSE_S)
    if private_ip:
        return private_ip
    raise LaunchError(
        f"{name} has no address after {timeout_s:g} seconds: {why}",
        "From outside Fly, connect with WireGuard and set SCHEDCTL_RESOLVER; see "
        "docs/OPERATIONS.md.",
        retryable=True,
    )
