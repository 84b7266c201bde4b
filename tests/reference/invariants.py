"""Checks of a plan (rules, section 12) that do not use the code that made it.

Windows and nearest events are searched day by day for the date they depend on; latest dates are
worked out from the event in the row. Only the reading of the file (`organization`) and of the
configuration is shared with the reference.
"""

from __future__ import annotations

import calendar
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from .configuration import Configuration, ExclusionRule, configure, limits
from .contacts import Contact
from .organization import read_organization
from .plan import Plan, PlanRow
from .records import SENT, HistoryRow, Organization

_PRIORITIES = {"birthday": 10, "effective_date": 20, "aep": 30, "post_window": 40}
_REASONS = ("same_day_conflict", "frequency_limit")
_KINDS = (
    "year_round",
    "birthday_window",
    "effective_date_window",
    "unreadable_date",
    "missing_date",
)


def violations(
    connection: sqlite3.Connection, as_of: date, overrides: dict[str, Any], found: Plan
) -> list[str]:
    """Return a sentence for everything in a plan that must not be.

    `connection` is the file before or after it.
    """
    configuration = configure(overrides)
    checker = _Checker(
        read_organization(connection, as_of, configuration), as_of, configuration, found
    )
    return list(checker.all())


def excluded_kinds(contact: Contact, day: date, configuration: Configuration) -> set[str]:
    """Return the kinds under which rules exclude a day, searched day by day."""
    found = {
        _kind(rule, contact, day, configuration)
        for rule in configuration.rules.get(contact.state, ())
    }
    return {kind for kind in found if kind is not None}


def _kind(
    rule: ExclusionRule, contact: Contact, day: date, configuration: Configuration
) -> str | None:
    if rule.kind == "year_round":
        return "year_round"
    by_birthday = rule.kind == "birthday_window"
    of = contact.birth_date if by_birthday else contact.effective_date
    if of is None:
        if ("birth_date" if by_birthday else "effective_date") in contact.unreadable:
            return "unreadable_date" if configuration.unreadable_dates_exclude else None
        return "missing_date" if configuration.missing_dates_exclude else None
    before = rule.before + (
        configuration.pre_window_days if rule.pre_window_days is None else rule.pre_window_days
    )
    days = (_shifted(day, offset) for offset in range(-rule.after, before + 1))
    return (
        rule.kind if any(is_base(one, of, month_start=rule.month_start) for one in days) else None
    )


def _shifted(day: date, days: int) -> date:
    """Return the date this many days later, at most the last of the calendar."""
    return date.fromordinal(min(day.toordinal() + days, date.max.toordinal()))


def belongs(
    row: HistoryRow, email_type: str, event: date, contact: Contact, configuration: Configuration
) -> bool:
    """Return whether a dispatched row answers for an event of these types (section 4)."""
    if row.email_type != email_type:
        return False
    if row.own_date is None:
        return True
    if email_type == "post_window":
        return -30 <= (row.own_date - event).days <= 30
    for distance in range(400):
        for candidate in (-distance, distance):
            ordinal = row.own_date.toordinal() + candidate
            if 1 <= ordinal <= date.max.toordinal():
                day = date.fromordinal(ordinal)
                if _is_event(day, email_type, contact, configuration):
                    return day == event
    return False


def _is_event(day: date, email_type: str, contact: Contact, configuration: Configuration) -> bool:
    if email_type == "aep":
        return is_aep_day(day, configuration)
    of = contact.birth_date if email_type == "birthday" else contact.effective_date
    return of is not None and is_base(day, of, month_start=False)


def is_aep_day(day: date, configuration: Configuration) -> bool:
    """Return whether this is one of the configured AEP days."""
    return any(
        is_base(day, date(2000, month, of_month), month_start=False)
        for month, of_month in configuration.month_days()
    )


def latest_aep(event: date, configuration: Configuration) -> date:
    """Return the last day of an AEP email: within the slack, and before the next AEP day."""
    day = event
    while (day - event).days < configuration.aep_slack_days and not is_aep_day(
        _shifted(day, 1), configuration
    ):
        day = _shifted(day, 1)
    return day


def is_base(day: date, of: date, *, month_start: bool) -> bool:
    """Return whether a window depends on this day.

    The day is the anniversary, or the first of its month.
    """
    if month_start:
        return (day.month, day.day) == (of.month, 1)
    if (of.month, of.day) == (2, 29):
        return (day.month, day.day) == (2, calendar.monthrange(day.year, 2)[1])
    return (day.month, day.day) == (of.month, of.day)


class _Checker:
    """One plan and all that is known of its organization."""

    def __init__(
        self, organization: Organization, as_of: date, configuration: Configuration, found: Plan
    ) -> None:
        self.organization = organization
        self.as_of = as_of
        self.configuration = configuration
        self.plan = found
        self.contacts = {contact.id: contact for contact in organization.contacts}
        self.dispatched = organization.dispatched
        self.endless = {
            contact.id
            for contact in organization.contacts
            if excluded_kinds(contact, as_of, configuration)
            & {"year_round", "unreadable_date", "missing_date"}
        }
        self.limits = limits(configuration, organization.total)

    def all(self) -> Iterator[str]:
        """Yield everything that must not be."""
        yield from self.issues()
        for row in self.plan.rows:
            if row.contact_id not in self.contacts:
                yield f"{row}: the contact is not eligible"
                continue
            yield from self.status(row)
            yield from self.window(row)
            yield from self.dates(row)
            yield from self.handled(row)
            yield from self.campaign(row)
        yield from self.keys()
        yield from self.crowded_days()
        yield from self.contact_days()

    def issues(self) -> Iterator[str]:
        """Each contact without eligibility has one issue; nobody else has one of those."""
        of_dates = ("invalid_birth_date", "invalid_effective_date")
        found = Counter(
            contact_id for contact_id, reason in self.plan.issues if reason not in of_dates
        )
        for contact_id, times in found.items():
            if times > 1 or contact_id in self.contacts:
                yield f"contact {contact_id} has the wrong issues"
        if len(found) + len(self.contacts) != self.organization.total:
            yield "there are contacts that are neither eligible nor have an issue"

    def status(self, row: PlanRow) -> Iterator[str]:
        """A skipped row says why, a planned one does not."""
        if row.status not in {"pre-scheduled", "skipped"} or (row.status == "skipped") != bool(
            row.skip_reason
        ):
            yield f"{row}: status and reason do not fit"
        reason = row.skip_reason or ""
        if reason in _REASONS and row.email_type.startswith("followup_"):
            yield f"{row}: follow-ups are not limited"
        if reason and reason not in _REASONS and not reason.startswith("exclusion:"):
            yield f"{row}: an unknown reason"

    def window(self, row: PlanRow) -> Iterator[str]:
        """Invariant 1, and that what is skipped for a window is in one."""
        contact = self.contacts[row.contact_id]
        kinds = (
            excluded_kinds(contact, _day(row), self.configuration)
            if self.respects_windows(row)
            else set()
        )
        if row.status == "pre-scheduled" and kinds:
            yield f"{row}: planned in a window ({sorted(kinds)})"
        if (
            row.status == "pre-scheduled"
            and row.contact_id in self.endless
            and self.respects_windows(row)
        ):
            yield f"{row}: planned where every date is excluded"
        if row.email_type == "post_window" and row.contact_id in self.endless:
            yield f"{row}: the windows have no end"
        if row.skip_reason and row.skip_reason.startswith("exclusion:"):
            _, state, kind = row.skip_reason.split(":")
            first = next((k for k in _KINDS if k in kinds), None)
            if (state, kind) != (contact.state, first):
                yield f"{row}: the window is {first} of {contact.state}"

    def respects_windows(self, row: PlanRow) -> bool:
        """Return whether the row's type respects windows."""
        if not row.email_type.startswith("campaign_"):
            return True
        return self.organization.campaign_types[
            row.email_type.removeprefix("campaign_")
        ].respect_exclusion_windows

    def dates(self, row: PlanRow) -> Iterator[str]:
        """Invariant 2; and a follow-up's date, priority and instance are those of its parent."""
        day, event = _day(row), _event(row)
        if day < self.as_of:
            yield f"{row}: before {self.as_of}"
        if row.email_type.startswith("followup_"):
            yield from self.followup(row)
            return
        if day > self.latest(row, event):
            yield f"{row}: after its latest date {self.latest(row, event)}"
        if row.priority != _PRIORITIES.get(row.email_type, row.priority):
            yield f"{row}: the priority is wrong"

    def latest(self, row: PlanRow, event: date) -> date:
        """Return the last day on which a row's email may go out, worked out from its event."""
        settings = self.configuration
        if row.email_type == "aep":
            return latest_aep(event, settings)
        if row.email_type == "post_window":
            return event + timedelta(days=30)
        if row.email_type == "birthday":
            return event - timedelta(days=min(1, settings.birthday_days_before))
        if row.email_type == "effective_date":
            return event - timedelta(days=min(1, settings.effective_date_days_before))
        instance = next(
            one
            for one in self.organization.campaign_instances
            if one.id == row.campaign_instance_id
        )
        kind = self.organization.campaign_types[instance.campaign_type]
        end = instance.active_end_date or date.max
        if kind.spread_evenly and instance.spread_start_date and instance.spread_end_date:
            return min(end, instance.spread_end_date)
        if kind.days_before_event > 0:
            return min(end, event - timedelta(days=1))
        return min(end, event + timedelta(days=30 - kind.days_before_event))

    def followup(self, row: PlanRow) -> Iterator[str]:
        """A follow-up follows a sent row of its contact, in time, and nobody followed before."""
        rows = self.organization.history.get(row.contact_id, [])
        parent = next((one for one in rows if one.id == row.parent_id), None)
        if parent is None or parent.status not in SENT or parent.void:
            yield f"{row}: no such parent"
            return
        sent = _event(row)
        due = max(sent + timedelta(days=self.configuration.followup_delay_days), self.as_of)
        expected = (parent.sent_on, due, parent.priority, parent.campaign_instance_id)
        if expected != (sent, _day(row), row.priority, row.campaign_instance_id):
            yield f"{row}: does not fit its parent {parent}"
        if not 0 <= (self.as_of - sent).days <= self.configuration.followup_lookback_days:
            yield f"{row}: the parent is too old"
        if any(one.followup and one.dispatched and one.day and one.day >= sent for one in rows):
            yield f"{row}: was followed up before"

    def handled(self, row: PlanRow) -> Iterator[str]:
        """Yield a problem if the row plans an event that the sender has already (section 4)."""
        contact = self.contacts[row.contact_id]
        for sent in self.organization.history.get(row.contact_id, []):
            if (
                sent.void
                or sent.email_type != row.email_type.lower()
                or row.email_type.startswith("followup_")
            ):
                continue
            if row.email_type.startswith("campaign_"):
                again = (
                    sent.own_date is None or sent.campaign_instance_id == row.campaign_instance_id
                )
            else:
                again = belongs(sent, row.email_type, _event(row), contact, self.configuration)
            if again:
                yield f"{row}: handled by {sent}"

    def campaign(self, row: PlanRow) -> Iterator[str]:
        """A campaign is planned only where all of it could be read."""
        for instance in self.organization.campaign_instances:
            kind = self.organization.campaign_types.get(instance.campaign_type)
            of_row = (
                row.email_type.startswith("campaign_") and instance.id == row.campaign_instance_id
            )
            if of_row and (kind is None or kind.unreadable or instance.unreadable):
                yield f"{row}: a campaign with unreadable values"

    def keys(self) -> Iterator[str]:
        """No two rows of the plan have one key, and none the key of a row that stays."""
        keys = Counter(row.key for row in self.plan.rows)
        yield from (
            f"the key {key} is there {times} times" for key, times in keys.items() if times > 1
        )
        for rows in self.organization.history.values():
            for row in rows:
                if row.day and (row.contact_id, row.written_type, row.day.isoformat()) in keys:
                    yield f"{row} has the key of a planned row"

    def crowded_days(self) -> Iterator[str]:
        """Invariant 3: on a day above the limit, what is above the cap could not move."""
        fixed = Counter(row.day for row in self.dispatched if row.day)
        days: dict[date, list[PlanRow]] = defaultdict(list)
        for row in self.plan.rows:
            if row.status == "pre-scheduled" and row.email_type.startswith("followup_"):
                fixed[_day(row)] += 1
            elif row.status == "pre-scheduled":
                days[_day(row)].append(row)
        for day, rows in days.items():
            if fixed[day] + len(rows) > self.limits.limit:
                could_move = [row for row in rows if self.could_move(row)]
                if len(could_move) > max(0, self.limits.cap - fixed[day]):
                    yield (
                        f"{day} holds {fixed[day]} + {len(rows)}, limit {self.limits.limit}; "
                        f"{could_move[-1]} could move"
                    )

    def could_move(self, row: PlanRow) -> bool:
        """Return whether there is a later day for a row."""
        contact, day, latest = (
            self.contacts[row.contact_id],
            _day(row),
            self.latest(row, _event(row)),
        )
        while day < latest:
            day += timedelta(days=1)
            if not self.respects_windows(row) or not excluded_kinds(
                contact, day, self.configuration
            ):
                return True
        return False

    def contact_days(self) -> Iterator[str]:
        """Invariant 4: one email per contact and day.

        A period with a planned row holds no more than allowed.
        """
        sent: dict[int, list[date]] = defaultdict(list)
        planned: dict[int, list[date]] = defaultdict(list)
        for one in self.dispatched:
            if one.day and one.contact_id is not None and not one.followup:
                sent[one.contact_id].append(one.day)
        for row in self.plan.rows:
            if row.status == "pre-scheduled" and not row.email_type.startswith("followup_"):
                planned[row.contact_id].append(_day(row))
        most, period = self.configuration.max_emails_per_period, self.configuration.period_days
        for contact_id, days in planned.items():
            every = [*days, *sent[contact_id]]
            for day in days:
                if every.count(day) > 1:
                    yield f"contact {contact_id} gets two emails on {day}"
            for first in every:
                within = [day for day in every if 0 <= (day - first).days < period]
                if len(within) > most and any(0 <= (day - first).days < period for day in days):
                    yield (
                        f"contact {contact_id} gets {len(within)} emails in {period} days "
                        f"from {first}"
                    )


def _day(row: PlanRow) -> date:
    return date.fromisoformat(row.scheduled_send_date)


def _event(row: PlanRow) -> date:
    return date(row.event_year or 0, row.event_month or 0, row.event_day or 0)
