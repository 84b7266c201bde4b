"""The table of requests: which handler answers a request, where it runs, what it may access.

| column     | where it is declared                                                            |
| ---------- | ------------------------------------------------------------------------------- |
| reply      | the request's class: `class GetJob(Request[JobReply], ...)`                     |
| capability | the request's class: `capability = "submit"`                                    |
| handler    | `RequestTable.route`                                                            |
| runs on    | `RequestTable.route`: `Route.loop`, or a thread (all others)                    |
| access     | `RequestTable.route`: `Route.thread`, `Route.shared`, `Route.exclusive`         |
| time limit | `RequestTable.route`: `slow=True`, and all of `Route.exclusive`                 |

The type checker refuses a request without a row, and a handler that returns another reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Self, assert_never

from schedd.files.requests import FileRequestHandler
from schedproto.checks import AdoptOrganization, CheckOrganization, PlanAdoption
from schedproto.message import Reply
from schedproto.messages import (
    AnyRequest,
    Cancel,
    CheckConfiguration,
    Diagnose,
    GetBackups,
    GetConfiguration,
    GetHealth,
    GetJob,
    GetOrganization,
    GetReport,
    GetVolume,
    Hello,
    ListJobs,
    ListOrganizations,
    RestoreBackup,
    SetConfiguration,
    Submit,
    Unwatch,
    Watch,
    WithdrawConfiguration,
)
from schedproto.transfers import (
    CloseTransfer,
    CommitPush,
    GetBlocks,
    GetDigests,
    OfferDigests,
    OpenPull,
    OpenPush,
    PutBlocks,
)

from .handlers import DaemonRequestHandler, JobRequestHandler
from .watches import Peer, Watches


class Access(Enum):
    """The access of a handler to an organization's file."""

    #: It does not use the file.
    NONE = "none"
    #: It uses the file while jobs of the organization may run; SQLite's locks separate them.
    #: Requests with access to the same file wait for each other.
    SHARED = "shared"
    #: No job of the organization may run: refused while one is queued or running, and none starts
    #: meanwhile.
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True)
class Route:
    """A row of the table: the handler of one request, and where it runs.

    call: the handler with its request.   organization: whose file it accesses, if any.
    slow: it may read or write a complete file, so it has a longer time limit and slots of its own.

        Route.loop(request.bind(daemon.get_health))
        Route.shared(request.organization, request.bind(files.get_report))
    """

    call: Callable[[], Reply]
    on_thread: bool
    access: Access = Access.NONE
    organization: str = ""
    slow: bool = False

    @classmethod
    def loop(cls, call: Callable[[], Reply]) -> Self:
        """Return a row whose handler returns at once, in the event loop."""
        return cls(call, on_thread=False)

    @classmethod
    def thread(cls, call: Callable[[], Reply], *, slow: bool = False) -> Self:
        """Return a row whose handler blocks, but does not use an organization's file."""
        return cls(call, on_thread=True, slow=slow)

    @classmethod
    def shared(cls, organization: str, call: Callable[[], Reply], *, slow: bool = False) -> Self:
        """Return a row whose handler uses an organization's file, next to its jobs."""
        return cls(call, on_thread=True, access=Access.SHARED, organization=organization, slow=slow)

    @classmethod
    def exclusive(cls, organization: str, call: Callable[[], Reply]) -> Self:
        """Return a row whose handler uses an organization's file while no job of it runs."""
        return cls(
            call, on_thread=True, access=Access.EXCLUSIVE, organization=organization, slow=True
        )


class RequestTable:
    """The daemon's table of requests.

    Example:

        table.route(peer, GetVolume(id="1")).call()  # the VolumeReply
    """

    def __init__(
        self,
        daemon: DaemonRequestHandler,
        jobs: JobRequestHandler,
        watches: Watches,
        files: FileRequestHandler,
    ) -> None:
        self._daemon = daemon
        self._jobs = jobs
        self._watches = watches
        self._files = files

    def route(self, peer: Peer, request: AnyRequest) -> Route:  # noqa: C901, PLR0911, PLR0912 - a table
        """Return the row of a request."""
        daemon, jobs, watches, files = self._daemon, self._jobs, self._watches, self._files
        match request:
            # The daemon
            case Hello():
                return Route.loop(request.bind(daemon.hello))
            case GetHealth():
                return Route.loop(request.bind(daemon.get_health))
            # Jobs
            case Submit():
                return Route.loop(request.bind(jobs.submit))
            case GetJob():
                return Route.loop(request.bind(jobs.get_job))
            case ListJobs():
                return Route.loop(request.bind(jobs.list_jobs))
            case Cancel():
                return Route.loop(request.bind(jobs.cancel))
            case Watch():
                return Route.loop(request.bind(partial(watches.watch, peer)))
            case Unwatch():
                return Route.loop(request.bind(partial(watches.unwatch, peer)))
            # The data folder
            case GetVolume():
                return Route.thread(request.bind(files.get_volume))
            case ListOrganizations():
                return Route.thread(request.bind(files.list_organizations))
            case Diagnose():
                return Route.thread(request.bind(files.diagnose), slow=True)
            # One organization
            case GetOrganization():
                return Route.shared(request.organization, request.bind(files.get_organization))
            case GetReport():
                return Route.shared(request.organization, request.bind(files.get_report))
            case GetConfiguration():
                return Route.shared(request.organization, request.bind(files.get_configuration))
            case CheckConfiguration():
                return Route.shared(request.organization, request.bind(files.check_configuration))
            case SetConfiguration():
                return Route.shared(request.organization, request.bind(files.set_configuration))
            case WithdrawConfiguration():
                return Route.shared(
                    request.organization, request.bind(files.withdraw_configuration)
                )
            case GetBackups():
                return Route.shared(request.organization, request.bind(files.get_backups))
            case RestoreBackup():
                return Route.exclusive(request.organization, request.bind(files.restore_backup))
            case CheckOrganization():
                return Route.shared(
                    request.organization, request.bind(files.check_organization), slow=True
                )
            case PlanAdoption():
                return Route.shared(
                    request.organization, request.bind(files.plan_adoption), slow=True
                )
            case AdoptOrganization():
                return Route.exclusive(request.organization, request.bind(files.adopt_organization))
            # Transfers
            case OpenPull():
                return Route.exclusive(request.organization, request.bind(files.open_pull))
            case OpenPush():
                return Route.exclusive(request.organization, request.bind(files.open_push))
            case GetDigests():
                return Route.thread(request.bind(files.get_digests))
            case GetBlocks():
                return Route.thread(request.bind(files.get_blocks))
            case OfferDigests():
                return Route.shared(
                    request.organization, request.bind(files.offer_digests), slow=True
                )
            case PutBlocks():
                return Route.thread(request.bind(files.put_blocks))
            case CommitPush():
                return Route.exclusive(request.organization, request.bind(files.commit_push))
            case CloseTransfer():
                return Route.thread(request.bind(files.close_transfer))
            case _:
                assert_never(request)
