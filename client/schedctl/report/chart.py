"""The chart of the volume per day.

Inline SVG, with a title on every bar and a table for those who do not see it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from html import escape

from schedproto import RunResult

_WIDTH, _HEIGHT = 1000, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 16, 30
#: The line before balancing is cut off at this multiple of everything else.
_CUT_ABOVE = 1.6
#: Cut-off days that are named.
_NAMED = 3
_DAY = dt.timedelta(days=1)


def _parsed(days: Mapping[str, int]) -> dict[dt.date, int]:
    found = {}
    for day, count in days.items():
        try:
            found[dt.date.fromisoformat(day)] = int(count)
        except ValueError:
            continue
    return found


def _nice(value: float) -> int:
    """Return a round number that is not smaller."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if factor * step >= value:
                return factor * step
        step *= 10


class VolumeChart:
    """The chart of one run.

    Example:

        picture = VolumeChart(result).svg()
    """

    def __init__(self, run: RunResult) -> None:
        self.run = run
        self.after, self.before = _parsed(run.volume), _parsed(run.volume_before)
        self.sent = _parsed(run.volume_dispatched)
        days = self.after.keys() | self.before.keys() | self.sent.keys()
        self.first = min(days, default=dt.date(2000, 1, 1))
        self.span = (max(days, default=self.first) - self.first).days + 1
        height = max(
            [run.daily_limit, *(self.after.get(d, 0) + self.sent.get(d, 0) for d in days), 1]
        )
        peak = max([height, *self.before.values()])
        self.cut = peak > _CUT_ABOVE * height
        self.top = height * _CUT_ABOVE if self.cut else peak
        self._step = _nice(self.top / 5)

    def _x(self, day: dt.date) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (day - self.first).days / self.span

    def _y(self, count: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(count, self.top) / self.top)

    def svg(self) -> str:
        """Return the picture."""
        cap, limit = self.run.daily_cap, self.run.daily_limit
        label = (
            f"E-mails per day from {self.first} on, {self.span} days; cap {cap:,}, limit {limit:,}"
        )
        parts = [
            (
                f'<svg class="chart-wide" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
                f'aria-label="{escape(label)}">'
            ),
            *self._grid(),
            *self._bars(),
            self._outline(),
            *self._line("cap", cap, below=cap <= limit),
            *self._line("limit", limit, below=False),
            *self._cut_off(),
            "</svg>",
        ]
        return "\n".join(parts)

    def _grid(self) -> list[str]:
        parts = []
        count = 0
        while count <= self.top:
            y = self._y(count)
            parts.append(
                f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/>'
            )
            parts.append(
                f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{count:,}</text>'
            )
            count += self._step
        last_x = -100.0
        for index in range(self.span):
            day = self.first + index * _DAY
            x = self._x(day)
            if (index == 0 or day.day == 1) and x - last_x > 52 and x < _WIDTH - 40:
                last_x = x
                text = f"{day:%b %Y}" if index == 0 or day.month == 1 else f"{day:%b}"
                if self.span < 45:
                    text = f"{day:%d %b}"
                parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 10}">{text}</text>')
                if index:
                    parts.append(
                        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" '
                        f'y2="{_HEIGHT - _BOTTOM + 5}"/>'
                    )
        return parts

    def _bars(self) -> list[str]:
        width = (_WIDTH - _LEFT - _RIGHT) / self.span
        gap = 0.12 * width if width > 3 else 0
        parts = []
        for day in sorted(self.after.keys() | self.sent.keys()):
            after, sent = self.after.get(day, 0), self.sent.get(day, 0)
            title = f"{day:%a} {day}: {after:,} e-mails planned"
            if self.before.get(day, after) != after:
                title += f", {self.before.get(day, 0):,} before balancing"
            if sent:
                title += f", {sent:,} with the sender"
            parts.append(f"<g><title>{title}</title>")
            base = 0
            for name, count in (("sent", sent), ("after", after)):
                if count:
                    y, y0 = self._y(base + count), self._y(base)
                    parts.append(
                        f'<rect class="{name}" x="{self._x(day) + gap:.2f}" y="{y:.2f}" '
                        f'width="{max(width - 2 * gap, 0.4):.2f}" height="{max(y0 - y, 0.6):.2f}"/>'
                    )
                base += count
            parts.append("</g>")
        return parts

    def _outline(self) -> str:
        if not self.before or self.before == self.after:
            return ""
        width = (_WIDTH - _LEFT - _RIGHT) / self.span
        points = []
        for index in range(self.span):
            day = self.first + index * _DAY
            y = self._y(self.before.get(day, 0) + self.sent.get(day, 0))
            points += [f"{self._x(day):.1f},{y:.1f}", f"{self._x(day) + width:.1f},{y:.1f}"]
        return f'<polyline class="before" points="{" ".join(points)}"/>'

    def _line(self, name: str, count: int, *, below: bool) -> list[str]:
        if not count:
            return []
        y = self._y(count)
        text_y = y + 14 if below else y - 5
        return [
            f'<line class="{name}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>',
            (
                f'<text class="on-{name}" x="{_WIDTH - _RIGHT}" y="{text_y:.1f}" '
                f'text-anchor="end">{name} {count:,}</text>'
            ),
        ]

    def _cut_off(self) -> list[str]:
        """Name the highest days that are cut off."""
        if not self.cut:
            return []
        high = sorted(
            (d for d, count in self.before.items() if count > self.top),
            key=lambda d: -self.before[d],
        )
        parts = []
        for index, day in enumerate(high[:_NAMED]):
            anchor, x = (
                ("end", self._x(day) - 6)
                if self._x(day) > _WIDTH / 2
                else ("start", self._x(day) + 8)
            )
            text = f"{day:%d %b %Y}: {self.before[day]:,} before balancing"
            parts.append(
                f'<text class="on-before" x="{x:.1f}" y="{_TOP + 10 + 15 * index}" '
                f'text-anchor="{anchor}">{text}</text>'
            )
        return parts

    def days(self) -> list[tuple[dt.date, int, int, int]]:
        """Return (day, planned, before balancing, with the sender) of every day that has any."""
        return [
            (day, self.after.get(day, 0), self.before.get(day, 0), self.sent.get(day, 0))
            for day in sorted(self.after.keys() | self.before.keys() | self.sent.keys())
        ]
