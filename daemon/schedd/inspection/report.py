"""One check of an organization's file.

All findings, and the configuration that follows from them.
"""

from __future__ import annotations

import datetime as dt
import time
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

    The daemon's file, the stored version, and what a request adds.
    """

    defaults: Layer
    stored: StoredConfiguration | None
    overrides: Mapping[str, Any]

    @property
    def stored_values(self) -> Mapping[str, Any]:
        """Return what the stored version has."""
        return {} if self.stored is None else self._layer().values

    def _layer(self) -> Layer:
        if self.stored is None:
            return Layer("no version", {})
        return self.stored.layer(
            f"version {self.stored.version} of the organization's configuration"
        )

    def build(self) -> Configuration:
        """Return what a run would use. Raises `SchedulerError`."""
        try:
            return build(
                self.defaults, self._layer(), Layer("the check's configuration", self.overrides)
            )
        except ConfigurationError as error:
            raise invalid(error) from None

    def with_suggestions(self, findings: Sequence[CheckFinding]) -> dict[str, Any]:
        """Return the new version of the organization's own configuration, empty where nothing is suggested."""
        wanted: dict[str, Any] = {}
        for item in findings:
            wanted = _merged(wanted, item.settings)
        if not wanted:
            return {}
        new = _merged(self.stored_values, wanted)
        # What is suggested has to be what `schedctl config set` takes.
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


def check(
    path: Path,
    organization: str,
    defaults: Layer,
    *,
    as_of: dt.date | None,
    overrides: Mapping[str, Any],
    accept_statuses: Sequence[str],
    first_run_only: bool,
    now: Callable[[], dt.datetime],
) -> CheckReport:
    """Check a file; changes nothing.

    Blocks for as long as reading the file takes; raises `SchedulerError`.

    defaults: the daemon's configuration file.   as_of: by default, today in the organization's time
    zone.
    """
    began = time.monotonic()
    try:
        report = _checked(
            path, organization, defaults, as_of, overrides, accept_statuses, now, first_run_only
        )
    except SchedulerError as error:
        if error.code != ErrorCode.FOREIGN_SCHEMA:
            raise
        report = CheckReport(organization=organization, findings=[refused(error)])
    return msgspec.structs.replace(report, wall_s=round(time.monotonic() - began, 3))


def _checked(
    path: Path,
    organization: str,
    defaults: Layer,
    as_of: dt.date | None,
    overrides: Mapping[str, Any],
    accept_statuses: Sequence[str],
    now: Callable[[], dt.datetime],
    first_run_only: bool,
) -> CheckReport:
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            # One state of the file for all statements.
            connection.execute("BEGIN")
            schema = read_schema(connection)
            if first_run_only and has_completed_run(connection, schema):
                return CheckReport(organization=organization, checked=False)
            settings = Settings(defaults, applicable_configuration(connection, schema), overrides)
            return inspect(
                connection, schema, path, organization, settings, as_of, accept_statuses, now
            )
    finally:
        connection.close()


def has_completed_run(connection: apsw.Connection, schema: Schema) -> bool:
    """Return whether a run of the organization has been completed."""
    if not schema.has("scheduler_runs", "status"):
        return False
    return (
        connection.execute(
            "SELECT 1 FROM scheduler_runs WHERE status = 'completed' LIMIT 1"
        ).fetchone()
        is not None
    )


def inspect(
    connection: apsw.Connection,
    schema: Schema,
    path: Path,
    organization: str,
    settings: Settings,
    as_of: dt.date | None,
    accept_statuses: Sequence[str],
    now: Callable[[], dt.datetime],
) -> CheckReport:
    """Return what there is to report of an open file."""
    configuration = settings.build()
    day = as_of or now().astimezone(zoneinfo.ZoneInfo(configuration.timezone)).date()
    accepted = tuple(dict.fromkeys(trimmed(status).lower() for status in accept_statuses))
    inspection = Inspection(connection, schema, configuration, calendar.ordinal(day), accepted)
    findings = list(refusals(connection, schema, path, configuration, inspection.as_of))
    refused_plan = any(item.table == PLAN for item in findings)
    findings += _all(lambda: plan_findings(connection, schema, refused=refused_plan))
    eligible = 0
    try:
        if "contacts" in schema.columns:
            inspection.contacts = int(connection.execute("SELECT count(*) FROM contacts").get)
            findings += _all(lambda: name_findings(inspection))
            if can_read_contacts(connection, schema, path):
                eligible, more = _contents(inspection)
                findings += more
    except apsw.SQLError as error:
        findings.append(refused(translate(error, path)))
    order = {severity: number for number, severity in enumerate(SEVERITIES)}
    findings.sort(key=lambda item: order[item.severity])
    return CheckReport(
        organization=organization,
        as_of=day.isoformat(),
        contacts=inspection.contacts,
        contacts_eligible=eligible,
        config_version=None if settings.stored is None else settings.stored.version,
        findings=findings,
        settings=settings.with_suggestions(findings),
    )


def _contents(inspection: Inspection) -> tuple[int, list[CheckFinding]]:
    """Return how many contacts are eligible, and what there is to report of all rows."""
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
    """Return the findings of one part.

    What SQLite cannot do with the file is one of them, and ends the part alone.
    """
    found: list[CheckFinding] = []
    try:
        found.extend(part())
    except apsw.SQLError as error:
        message = f"Part of the file cannot be checked: SQLite reported an error ({error})."
        found.append(finding("foreign_schema", message))
    return found
