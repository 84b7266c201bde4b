"""Exclusion windows (rules, section 3), for one contact, one date at a time."""

from __future__ import annotations

from datetime import date, timedelta

from .configuration import Configuration, ExclusionRule
from .contacts import Contact
from .dates import anniversary, shift

#: In this order a reason is named when several apply (section 5).
KINDS = (
    "year_round",
    "birthday_window",
    "effective_date_window",
    "unreadable_date",
    "missing_date",
)

#: A chain of windows that is longer than this never ends: its rules cover every day of the year.
_ENDLESS_DAYS = 366 * 12


class Windows:
    """The exclusion windows of one contact."""

    def __init__(self, contact: Contact, configuration: Configuration) -> None:
        self._contact = contact
        self._configuration = configuration
        self._rules = configuration.rules.get(contact.state, ())
        #: The kinds that exclude every date.
        self._closed = {
            kind for rule in self._rules if (kind := self._every_date(rule)) is not None
        }
        self._of_year: dict[int, list[tuple[str, date, date]]] = {}

    @property
    def endless(self) -> bool:
        """Return whether a rule excludes every date."""
        return bool(self._closed)

    def reason(self, day: date) -> str | None:
        """Return `exclusion:<STATE>:<kind>` if the day is excluded, else None."""
        kinds = self._closed | {kind for kind, _, _ in self._around(day)}
        for kind in KINDS:
            if kind in kinds:
                return f"exclusion:{self._contact.state}:{kind}"
        return None

    def end(self, day: date) -> date | None:
        """Return the window end of an excluded day; None where it never ends."""
        if self.endless:
            return None
        end = max(last for _, _, last in self._around(day))
        while True:
            following = end + timedelta(days=1)
            windows = self._around(following)
            if not windows:
                return end
            end = max(last for _, _, last in windows)
            if (end - day).days > _ENDLESS_DAYS:
                return None

    def _around(self, day: date) -> list[tuple[str, date, date]]:
        """Return (kind, first day, last day) of the windows that contain the day."""
        return [
            window
            for year in (day.year - 1, day.year, day.year + 1)
            for window in self._windows(year)
            if window[1] <= day <= window[2]
        ]

    def _windows(self, year: int) -> list[tuple[str, date, date]]:
        if year not in self._of_year:
            self._of_year[year] = [
                window for rule in self._rules if (window := self._window(rule, year)) is not None
            ]
        return self._of_year[year]

    def _every_date(self, rule: ExclusionRule) -> str | None:
        """Return the kind under which the rule excludes every date, or None."""
        if rule.kind == "year_round":
            return "year_round"
        column = _column(rule)
        if column in self._contact.unreadable:
            return "unreadable_date" if self._configuration.unreadable_dates_exclude else None
        missing = getattr(self._contact, column) is None
        return "missing_date" if missing and self._configuration.missing_dates_exclude else None

    def _window(self, rule: ExclusionRule, year: int) -> tuple[str, date, date] | None:
        if rule.kind == "year_round" or not date.min.year <= year <= date.max.year:
            return None
        of = getattr(self._contact, _column(rule))
        if of is None:
            return None
        base = anniversary(of, year)
        if rule.month_start:
            base = base.replace(day=1)
        extension = (
            rule.pre_window_days
            if rule.pre_window_days is not None
            else self._configuration.pre_window_days
        )
        return rule.kind, shift(base, -rule.before - extension), shift(base, rule.after)


def _column(rule: ExclusionRule) -> str:
    """Return the column of `contacts` with the date that the rule depends on."""
    return "birth_date" if rule.kind == "birthday_window" else "effective_date"
