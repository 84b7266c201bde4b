"""Exclusion windows (rules, section 3), for one contact, one date at a time."""

from __future__ import annotations

from datetime import date, timedelta

from .configuration import Configuration, ExclusionRule
from .dates import anniversary, shift
from .organization import Contact

#: In this order a reason is named when several apply (section 5).
KINDS = ("year_round", "birthday_window", "effective_date_window")

#: A chain of windows that goes on for longer than this goes on for ever: its rules cover every day of the year.
_ENDLESS_DAYS = 366 * 12


class Windows:
    """The exclusion windows of one contact."""

    def __init__(self, contact: Contact, configuration: Configuration) -> None:
        self._contact = contact
        self._configuration = configuration
        self._rules = configuration.rules.get(contact.state, ())
        self.year_round = any(rule.kind == "year_round" for rule in self._rules)
        self._of_year: dict[int, list[tuple[str, date, date]]] = {}

    def reason(self, day: date) -> str | None:
        """Return `exclusion:<STATE>:<kind>` if the day is excluded, else None."""
        kinds = {kind for kind, _, _ in self._around(day)}
        if self.year_round:
            kinds.add("year_round")
        for kind in KINDS:
            if kind in kinds:
                return f"exclusion:{self._contact.state}:{kind}"
        return None

    def end(self, day: date) -> date | None:
        """Return the window end of an excluded day; None where it never ends."""
        if self.year_round:
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
        """Return (kind, first day, last day) of the windows of the years around that contain the day."""
        return [
            window
            for year in (day.year - 1, day.year, day.year + 1)
            for window in self._windows(year)
            if window[1] <= day <= window[2]
        ]

    def _windows(self, year: int) -> list[tuple[str, date, date]]:
        if year not in self._of_year:
            self._of_year[year] = [window for rule in self._rules if (window := self._window(rule, year)) is not None]
        return self._of_year[year]

    def _window(self, rule: ExclusionRule, year: int) -> tuple[str, date, date] | None:
        if rule.kind == "year_round" or not date.min.year <= year <= date.max.year:
            return None
        of = self._contact.birth_date if rule.kind == "birthday_window" else self._contact.effective_date
        if of is None:
            return None
        base = anniversary(of, year)
        if rule.month_start:
            base = base.replace(day=1)
        extension = rule.pre_window_days if rule.pre_window_days is not None else self._configuration.pre_window_days
        return rule.kind, shift(base, -rule.before - extension), shift(base, rule.after)
