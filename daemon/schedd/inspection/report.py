"""The check of an organization's file: all findings, and the configuration that they suggest."""

from __future__ import annotations

import datetime as dt
import time
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import msgspec

from schedd.engine import calendar
from schedd.engine.coercions import trimmed
from schedd.engine.configuration import Configuration, Layer, build
from schedd.engine.validators import ConfigurationError
from schedd.store.configurations import invalid
from schedd.store.connection import open_reader
from schedd.store.errors import sqlite_errors, translate
from schedd.store.last_run import has_completed_run
from schedd.store.runs import StoredConfiguration, applicable_configuration
from schedd.store.schema import PLAN, Schema, read_schema
from schedproto import ErrorCode, SchedulerError
from schedproto.checks import SEVERITIES, CheckFinding, CheckReport

from .campaigns import campaign_findings
from .columns import name_findings, opt_out_findings, status_findings
from .context import Inspection, finding
from .dates import date_findings, scan_dates
from .history import history_findings
from .people import address_findings, birth_findings, boolean_findings, read_people
from .states import state_findings
from .tables import can_read_contacts, plan_findings, refusals, refused


@dataclass(frozen=True)
class Settings:
    """The configuration of an organization.

    defaults: the daemon's configuration file.   stored: the applicable version.   overrides: of one
    request.
    """

    defaults: Layer
    stored: StoredConfiguration | None
    overrides: Mapping[str, Any]

    @property
    def stored_values(self) -> Mapping[str, Any]:
        """Return the values of the stored version."""
        return {} if self.stored is None else self._layer().values

    def _layer(self) -> Layer:
        if self.stored is None:
            return Layer("no version", {})
        return self.stored.layer(
            f"version {self.stored.version} of the organization's configuration"
        )

    def build(self) -> Configuration:
        """Return the configuration that a run would use. Raises `SchedulerError`."""
        try:
            return build(
                self.defaults, self._layer(), Layer("the check's configuration", self.overrides)
            )
        except ConfigurationError as error:
            raise invalid(error) from None

    def with_suggestions(self, findings: Sequence[CheckFinding]) -> dict[str, Any]:
        """Return the new version of the organization's configuration; empty without suggestions."""
        wanted: dict[str, Any] = {}
        for item in findings:
            wanted = _merged(wanted, item.settings)
        if not wanted:
            return {}
        new = _merged(self.stored_values, wanted)
        # Raises if `schedctl config set` would refuse the suggestion.
        build(self.defaults, Layer("the suggested configuration", new))
        return new


def _merged(values: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for key, value in more.items():
        old = result.get(key)
        result[key] = (
            _merged(old, value)
            if isinstance(old, Mapping) and isinstance(value, Mapping)
            else value
        )
    return result


@dataclass(frozen=True, kw_only=True)
class CheckRequest:
    """A requested check of an organization's file.

    defaults: the daemon's configuration file.   as_of: the run's date; by default, today in the
    organization's time zone.   overrides: configuration of this request alone.
    accept_statuses: contact statuses that the suggested configuration activates.
    first_run_only: check nothing if a run of the organization has completed.   now: returns the
    time.

    Example:

        report = check(CheckRequest(path=path, organization="org-123", defaults=layer, now=utc_now))
    """

    path: Path
    organization: str
    defaults: Layer
    now: Callable[[], dt.datetime]
    as_of: dt.date | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    accept_statuses: Sequence[str] = ()
    first_run_only: bool = False

    def run_date(self, configuration: Configuration) -> dt.date:
        """Return the date of the run that the check is about."""
        if self.as_of is not None:
            return self.as_of
        return self.now().astimezone(zoneinfo.ZoneInfo(configuration.timezone)).date()


def check(request: CheckRequest) -> CheckReport:
    """Check a file; changes nothing. Blocks while the file is read. Raises `SchedulerError`."""
    began = time.monotonic()
    try:
        report = _checked(request)
    except SchedulerError as error:
        if error.code != ErrorCode.FOREIGN_SCHEMA:
            raise
        report = CheckReport(organization=request.organization, findings=[refused(error)])
    return msgspec.structs.replace(report, wall_s=round(time.monotonic() - began, 3))


def _checked(request: CheckRequest) -> CheckReport:
    connection = open_reader(request.path)
    try:
        with sqlite_errors(request.path):
            # One state of the file for all statements.
            connection.execute("BEGIN")
            schema = read_schema(connection)
            if request.first_run_only and has_completed_run(connection, schema):
                return CheckReport(organization=request.organization, checked=False)

            stored = applicable_configuration(connection, schema)
            settings = Settings(request.defaults, stored, request.overrides)
            return inspect(connection, schema, request, settings)
    finally:
        connection.close()


def inspect(
    connection: apsw.Connection, schema: Schema, request: CheckRequest, settings: Settings
) -> CheckReport:
    """Return the report of an open file. Raises `SchedulerError` or `apsw.Error`."""
    configuration = settings.build()
    day = request.run_date(configuration)
    accepted = tuple(dict.fromkeys(trimmed(status).lower() for status in request.accept_statuses))
    inspection = Inspection(connection, schema, configuration, calendar.ordinal(day), accepted)

    findings = _schema_findings(inspection, request.path)
    eligible, more = _contact_findings(inspection, request.path)
    findings += more
    findings.sort(key=lambda item: SEVERITIES.index(item.severity))
    return CheckReport(
        organization=request.organization,
        as_of=day.isoformat(),
        contacts=inspection.contacts,
        contacts_eligible=eligible,
        config_version=None if settings.stored is None else settings.stored.version,
        findings=findings,
        settings=settings.with_suggestions(findings),
    )


def _schema_findings(inspection: Inspection, path: Path) -> list[CheckFinding]:
    """Return the findings on the tables themselves."""
    connection, schema = inspection.connection, inspection.schema
    found = list(refusals(connection, schema, path, inspection.configuration, inspection.as_of))
    refused_plan = any(item.table == PLAN for item in found)
    return found + _all(lambda: plan_findings(connection, schema, refused=refused_plan))


def _contact_findings(inspection: Inspection, path: Path) -> tuple[int, list[CheckFinding]]:
    """Return the number of eligible contacts, and the findings on all rows.

    Sets `inspection.contacts`.
    """
    connection, schema = inspection.connection, inspection.schema
    if "contacts" not in schema.columns:
        return 0, []

    eligible, found = 0, []
    try:
        inspection.contacts = int(connection.execute("SELECT count(*) FROM contacts").get)
        found = _all(lambda: name_findings(inspection))
        if can_read_contacts(connection, schema, path):
            eligible, more = _contents(inspection)
            found += more
    except apsw.SQLError as error:
        found.append(refused(translate(error, path)))
    return eligible, found


def _contents(inspection: Inspection) -> tuple[int, list[CheckFinding]]:
    """Return the number of eligible contacts, and the findings on the content of all tables."""
    formats = scan_dates(inspection)
    people = read_people(inspection, formats.suggested)
    parts: list[Callable[[], Iterator[CheckFinding]]] = [
        lambda: opt_out_findings(inspection),
        lambda: date_findings(inspection, formats),
        lambda: status_findings(inspection),
        lambda: address_findings(inspection, people),
        lambda: birth_findings(inspection, people),
        lambda: boolean_findings(people.findings),
        lambda: history_findings(inspection),
        lambda: campaign_findings(inspection, people),
        lambda: state_findings(inspection, people),
    ]
    return people.eligible, [item for part in parts for item in _all(part)]


def _all(part: Callable[[], Iterator[CheckFinding]]) -> list[CheckFinding]:
    """Return the findings of one part; an error of SQLite becomes a finding that ends the part."""
    found: list[CheckFinding] = []
    try:
        found.extend(part())
    except apsw.SQLError as error:
        message = f"Part of the file cannot be checked: SQLite reported an error ({error})."
        found.append(finding("foreign_schema", message))
    return found
