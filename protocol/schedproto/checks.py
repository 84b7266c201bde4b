"""Messages and data of `schedctl check` and `schedctl adopt`."""

from __future__ import annotations

from typing import Any

import msgspec

from .message import Reply, Request

#: error: a run refuses the file, or e-mails are wrong or lost.   warning: single contacts or rows
#: are affected. note: worth knowing.
ERROR, WARNING, NOTE = "error", "warning", "note"
#: In the order of a report.
SEVERITIES = (ERROR, WARNING, NOTE)


class CheckFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of thing that a check found in an organization's file.

    code: stable, for programs; docs/CHECK.md lists them.   severity: `error`, `warning` or `note`.
    table, column: where; empty for the complete file.
    name: the pattern, form, status, e-mail type or object that it is about, where each is counted
    on its own.
    count: how many rows.   counts: its parts by name, the largest first, where it has parts.
    row_ids: up to five of the rows, ascending.   values: what these rows have, shortened.
    message: one sentence for people: what was found and what it means for the plan.   fix: one
    sentence: what to do.
    settings: the configuration that follows, in the shape of the rules' section 13.
    """

    code: str
    severity: str
    table: str = ""
    column: str = ""
    name: str = ""
    count: int = 0
    counts: dict[str, int] = {}
    row_ids: list[int | str] = []
    values: list[str] = []
    message: str = ""
    fix: str = ""
    settings: dict[str, Any] = {}


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of a check. as_of: the date of the run that the file was read for.

    checked: false if only an organization without a completed run was to be checked, and this
    one has a run.
    contacts, contacts_eligible: 0 if the contacts could not be read at all.
    settings: the configuration that follows from the findings, as the organization's own version:
    what the stored version has and what is suggested; empty if nothing is suggested.
    findings: the most serious first.
    """

    organization: str
    as_of: str = ""
    checked: bool = True
    contacts: int = 0
    contacts_eligible: int = 0
    config_version: int | None = None
    findings: list[CheckFinding] = []
    settings: dict[str, Any] = {}
    wall_s: float = 0.0


class TableChange(msgspec.Struct, frozen=True, kw_only=True):
    """One change that an adoption makes to a table of the scheduler. rows: how many it removes.

    sql: may be empty.
    """

    table: str
    message: str
    sql: str = ""
    rows: int = 0


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """The changes that make an organization's file ready for its first run.

    settings: the new version of the configuration, empty if none is needed.   settings_before:
    the current one.
    changes: what is changed in the scheduler's own tables.   left: errors that remain, and statuses
    that suppress contacts, for people to decide.
    digest: names the configuration and the changes, so that only what was shown is carried out.
    applied: whether it was done.   version: of the configuration, if one was stored.   backup_id:
    what the file was before, if backups are kept.
    """

    organization: str
    settings: dict[str, Any] = {}
    settings_before: dict[str, Any] = {}
    changes: list[TableChange] = []
    left: list[CheckFinding] = []
    digest: str = ""
    applied: bool = False
    version: int | None = None
    backup_id: str | None = None


# Replies ------------------------------------------------------------------------------------------


class CheckReply(Reply, tag="check", frozen=True, kw_only=True):
    """Reply to `CheckOrganization`."""

    report: CheckReport


class AdoptionReply(Reply, tag="adoption", frozen=True, kw_only=True):
    """Reply to `PlanAdoption` and `AdoptOrganization`."""

    adoption: Adoption


# Requests -----------------------------------------------------------------------------------------


class CheckOrganization(Request[CheckReply], tag="check_organization", frozen=True, kw_only=True):
    """Ask what a run of an organization could not read, would refuse or lose; changes nothing.

    as_of, config: as of a job.   accept_statuses: contact statuses that the suggestion shall make
    active.
    first_run_only: check only if no run of the organization has been completed yet.
    """

    capability = "check"
    organization: str
    as_of: str | None = None
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    accept_statuses: list[str] = msgspec.field(default_factory=list)
    first_run_only: bool = False


class PlanAdoption(Request[AdoptionReply], tag="plan_adoption", frozen=True, kw_only=True):
    """Ask what an adoption of an organization's file would change; changes nothing."""

    capability = "check"
    organization: str
    accept_statuses: list[str] = msgspec.field(default_factory=list)


class AdoptOrganization(
    Request[AdoptionReply], tag="adopt_organization", frozen=True, kw_only=True
):
    """Carry out the adoption with this digest.

    toml: the text of its `settings`, stored as the new version.

    If nothing has to be changed any more, nothing is done, whatever the digest.
    """

    capability = "check"
    organization: str
    digest: str
    toml: str = ""
    accept_statuses: list[str] = msgspec.field(default_factory=list)
    created_by: str = ""
