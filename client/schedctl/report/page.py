"""The report as one self-contained HTML page.

The file opens from disk; it fetches nothing and runs no scripts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from schedproto import Report, RunResult

from .chart import VolumeChart
from .style import CSS

#: Contacts with an issue, and days that changed most, that are listed.
_ISSUES, _DAYS = 200, 10
_STATUSES = ("pre-scheduled", "skipped")
_KINDS = (
    "year_round",
    "birthday_window",
    "effective_date_window",
    "unreadable_date",
    "missing_date",
)


def _n(number: int) -> str:
    return f"{number:,}"


def _signed(number: int) -> str:
    """Return a difference, with a colour for its direction."""
    if not number:
        return '<span class="soft">0</span>'
    return f'<span class="{"up" if number > 0 else "down"}">{number:+,}</span>'


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    foot: Sequence[str] | None = None,
    texts: int = 1,
) -> str:
    """Return a table in a box with its own scroll bar.

    Cells are HTML; the first `texts` columns are text.
    """

    def cells(row: Sequence[str], tag: str) -> str:
        parts = []
        for index, cell in enumerate(row):
            name, scope = ("th", ' scope="row"') if index == 0 and tag == "td" else (tag, "")
            scope = ' scope="col"' if tag == "th" else scope
            kind = (
                ' class="bar"' if cell.startswith("<i") else "" if index < texts else ' class="n"'
            )
            parts.append(f"<{name}{scope}{kind}>{cell}</{name}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "\n".join(cells(row, "td") for row in rows)
    end = f"<tfoot>{cells(foot, 'td')}</tfoot>" if foot else ""
    return (
        f'<div class="scroll" tabindex="0"><table><thead>{cells(heads, "th")}</thead>'
        f"<tbody>{body}</tbody>{end}</table></div>"
    )


def _bar(share: float) -> str:
    return f'<i style="width:{max(0.0, min(1.0, share)) * 100:.1f}%"></i>'


def _section(title: str, note: str, content: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="soft small">{note}</p>{content}</section>'


def _fact(name: str, value: str, note: str = "") -> str:
    return f'<div class="fact"><dt>{name}</dt><dd>{value}<span>{note}</span></dd></div>'


def _facts(run: RunResult) -> str:
    share = f"{run.contacts_eligible / run.contacts:.1%} eligible" if run.contacts else ""
    goes = sum(counts.get("pre-scheduled", 0) for counts in run.counts.values())
    changed = run.rows_inserted + run.rows_updated + run.rows_deleted
    busiest = max(run.volume, key=lambda day: run.volume[day], default="")
    facts = [
        _fact("contacts", _n(run.contacts), share),
        _fact("e-mails that go out", _n(goes), f"of {_n(run.rows_planned)} rows planned"),
        _fact("skipped", _n(run.rows_planned - goes), "excluded, limited, or on one day"),
        _fact(
            "rows changed",
            _n(changed),
            f"{_n(run.rows_inserted)} new, {_n(run.rows_updated)} updated, {_n(run.rows_deleted)} "
            "deleted",
        ),
        _fact(
            "busiest day",
            _n(run.volume.get(busiest, 0)),
            f"{escape(busiest)}; cap {_n(run.daily_cap)}",
        ),
        _fact(
            "took",
            f"{run.wall_s:.1f} s",
            f"{run.contacts_per_s:,.0f} contacts/s, mode {escape(run.mode)}",
        ),
    ]
    return f'<dl class="facts">{"".join(facts)}</dl>'


def _volume(run: RunResult) -> str:
    chart = VolumeChart(run)
    if not chart.days():
        return _section("E-mails per day", "No e-mail is planned to go out.", "")
    above = sum(1 for day, after, _, sent in chart.days() if after + sent > run.daily_limit)
    note = (
        f"The cap is {_n(run.daily_cap)} a day; days above {_n(run.daily_limit)} are spread "
        "(rules, section 9)."
    )
    if above:
        days_are = "days are" if above > 1 else "day is"
        note += f" {_n(above)} {days_are} above the limit with rows that could not move."
    keys = [("after", "planned"), ("before", "before balancing"), ("sent", "with the sender")]
    keys += [("cap", "cap"), ("limit", "limit")]
    items = "".join(f"<li><b class=k-{name}></b>{text}</li>" for name, text in keys)
    days = _table(
        ["day", "planned", "before balancing", "with the sender"],
        [
            [f"{day:%a} {day}", _n(after), _n(before), _n(sent)]
            for day, after, before, sent in chart.days()
        ],
    )
    return (
        f'<figure><figcaption><h2>E-mails per day</h2><p class="soft small">{note}</p></figcaption>'
        f'<div class="scroll" tabindex="0">{chart.svg()}</div>'
        f'<ul class="key">{items}</ul>'
        f"<details><summary>All days as a table</summary>{days}</details></figure>"
    )


def _types(run: RunResult) -> str:
    most = max((sum(counts.values()) for counts in run.counts.values()), default=1) or 1
    rows = [
        [
            escape(name),
            *(_n(counts.get(status, 0)) for status in _STATUSES),
            _bar(counts.get("pre-scheduled", 0) / most),
        ]
        for name, counts in run.counts.items()
    ]
    sums = [
        _n(sum(counts.get(status, 0) for counts in run.counts.values())) for status in _STATUSES
    ]
    table = _table(["e-mail type", "goes out", "skipped", ""], rows, ["total", *sums, ""])
    return _section(
        "Plan by type", "Rows of the plan; skipped ones stay in it with their reason.", table
    )


def _states(run: RunResult) -> str:
    if not run.states:
        return ""
    totals = {state: sum(types.values()) for state, types in run.states.items()}
    most = max(totals.values(), default=1) or 1
    rows = [
        [escape(state), _n(totals[state]), _bar(totals[state] / most)]
        for state in sorted(totals, key=lambda state: (-totals[state], state))
    ]
    shown, rest = rows[:12], rows[12:]
    content = _table(["state", "goes out", ""], shown)
    if rest:
        more = _table(["state", "goes out", ""], rest)
        content += f"<details><summary>{len(rest)} more states</summary>{more}</details>"
    kinds = sorted({name for types in run.states.values() for name in types})
    by_type = _table(
        ["state", *map(escape, kinds)],
        [
            [escape(state), *(_n(run.states[state].get(kind, 0)) for kind in kinds)]
            for state in sorted(run.states)
        ],
    )
    content += f"<details><summary>By state and type</summary>{by_type}</details>"
    return _section(
        "Plan by state", "E-mails that go out, by the state of the contact's ZIP.", content
    )


def _exclusions(run: RunResult) -> str:
    by_state: dict[str, dict[str, int]] = {}
    others: dict[str, int] = {}
    for reason, count in run.skipped.items():
        head, _, rest = reason.partition(":")
        state, _, kind = rest.partition(":")
        if head == "exclusion" and kind:
            by_state.setdefault(state, {})[kind] = count
        else:
            others[reason] = count
    content = ""
    if by_state:
        names = [k for k in _KINDS if any(k in kinds for kinds in by_state.values())]
        names += sorted({k for kinds in by_state.values() for k in kinds} - set(names))
        rows = [
            [
                escape(state),
                *(_n(kinds[k]) if k in kinds else "" for k in names),
                _n(sum(kinds.values())),
            ]
            for state, kinds in sorted(by_state.items())
        ]
        sums = [_n(sum(kinds.get(k, 0) for kinds in by_state.values())) for k in names]
        total = _n(sum(sum(kinds.values()) for kinds in by_state.values()))
        heads = [
            "state",
            *(escape(k.removesuffix("_window").replace("_", " ")) for k in names),
            "all",
        ]
        content += _table(heads, rows, ["all", *sums, total])
    if others:
        content += _table(
            ["other reasons", "rows"],
            [[escape(reason.replace("_", " ")), _n(c)] for reason, c in others.items()],
        )
    note = (
        "Rows that do not go out: state exclusion windows (rules, section 3), and limits a contact "
        "(section 10)."
    )
    return _section("Exclusions by state and rule", note, content or "<p>None.</p>")


def _issues(report: Report, run: RunResult) -> str:
    note = "Contacts whose data keeps e-mails from them, or some of them (rules, section 1)."
    if not run.issues:
        return _section("Contacts with issues", note, "<p>None.</p>")
    counts = _table(
        ["issue", "contacts"],
        [[escape(name.replace("_", " ")), _n(count)] for name, count in run.issues.items()],
    )
    shown = report.issues[:_ISSUES]
    rows = [[str(issue.contact_id), escape(issue.reason.replace("_", " "))] for issue in shown]
    some = (
        f"The first {_n(len(shown))} of {_n(report.issues_total)}"
        if report.issues_total > len(shown)
        else "All"
    )
    table = _table(["contact", "issue"], rows, texts=2)
    listed = f"<details><summary>{some} by contact</summary>{table}</details>"
    return _section("Contacts with issues", note, counts + (listed if shown else ""))


def _flat(counts: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, str], int]:
    return {
        (kind, status): n for kind, statuses in counts.items() for status, n in statuses.items()
    }


def _comparison(run: RunResult, previous: RunResult | None) -> str:
    title = "Compared with the previous run"
    if previous is None:
        return _section(title, "There was no run before this one.", "")
    note = (
        f"That run was as of {escape(previous.as_of)} and ended {escape(previous.finished_at)} UTC "
        f"({escape(previous.run_id)})."
    )
    changed, volume = _compared_days(run, previous)
    heading = f"Days that change most ({_n(changed)} change)"
    content = (
        f'{_compared_types(run, previous)}<div class="columns"><div>'
        f'<h3 class="soft small">Numbers</h3>{_compared_numbers(run, previous)}</div>'
        f'<div><h3 class="soft small">{heading}</h3>{volume}</div></div>'
    )
    return _section(title, note, content)


def _compared_types(run: RunResult, previous: RunResult) -> str:
    old, new = _flat(previous.counts), _flat(run.counts)
    rows = []
    for kind in sorted({kind for kind, _ in old.keys() | new.keys()}):
        row = [escape(kind)]
        for status in _STATUSES:
            was, now = old.get((kind, status), 0), new.get((kind, status), 0)
            row += [_n(now), _signed(now - was)]
        rows.append(row)
    return _table(["e-mail type", "goes out", "change", "skipped", "change"], rows)


def _compared_numbers(run: RunResult, previous: RunResult) -> str:
    facts = [
        ("contacts", previous.contacts, run.contacts),
        ("eligible", previous.contacts_eligible, run.contacts_eligible),
        ("rows planned", previous.rows_planned, run.rows_planned),
        *(
            (f"issue: {k.replace('_', ' ')}", previous.issues.get(k, 0), run.issues.get(k, 0))
            for k in _keys("issues", previous, run)
        ),
    ]
    return _table(
        ["", "before", "now", "change"],
        [[escape(name), _n(was), _n(now), _signed(now - was)] for name, was, now in facts],
    )


def _compared_days(run: RunResult, previous: RunResult) -> tuple[int, str]:
    """Return how many days change, and a table of those that change most."""
    changes = {
        day: run.volume.get(day, 0) - previous.volume.get(day, 0)
        for day in _keys("volume", previous, run)
    }
    days = [day for day, change in changes.items() if change]
    if not days:
        return 0, "<p>No day has more or fewer e-mails than before.</p>"
    most = sorted(days, key=lambda day: (-abs(changes[day]), day))[:_DAYS]
    rows = [
        [
            escape(day),
            _n(previous.volume.get(day, 0)),
            _n(run.volume.get(day, 0)),
            _signed(changes[day]),
        ]
        for day in sorted(most)
    ]
    return len(days), _table(["day", "before", "now", "change"], rows)


def _keys(field: str, *runs: RunResult) -> list[str]:
    return sorted({key for run in runs for key in getattr(run, field)})


def render(report: Report) -> str:
    """Return the page. Raises `ValueError` for a report without a run."""
    run = report.latest
    if run is None:
        raise ValueError("there is no run to report on")
    name = escape(report.organization)
    try:
        day = f"{dt.date.fromisoformat(run.as_of):%A, %d %B %Y}"
    except ValueError:
        day = run.as_of
    version = "" if run.config_version is None else f", configuration version {run.config_version}"
    head = (
        f"<header><h1>{name}</h1>"
        f'<p class="soft">E-mail plan as of {escape(day)}. Run {escape(run.run_id)} ended '
        f"{escape(run.finished_at)} UTC"
        f"{version}.</p></header>"
    )
    parts = [
        head,
        _facts(run),
        _volume(run),
        f'<div class="columns">{_types(run)}{_states(run)}</div>',
        f'<div class="columns">{_exclusions(run)}{_issues(report, run)}</div>',
        _comparison(run, report.previous),
        f'<p class="soft small">Written {escape(report.generated_at)} UTC.</p>',
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: e-mail plan as of "
        f"{escape(run.as_of)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )
