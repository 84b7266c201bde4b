"""Terminal output of explanations and previews."""

from __future__ import annotations

import datetime as dt

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schedctl.terminal import console, print_pairs, seconds
from schedproto import EventExplanation, Explanation, Preview, RowChange, RunResult
from schedproto.printable import shows_printable

from .review import print_review

_STATUS_STYLE = {"pre-scheduled": "green", "skipped": "yellow"}
_CHANGES = ("inserted", "moved", "updated", "deleted", "unchanged")
#: Days whose volume changes most, and examples of each type, that are shown.
_DAYS, _EXAMPLES = 10, 1


@shows_printable
def print_explanation(contact: Explanation, result: RunResult) -> None:
    """Show why a contact gets what it gets."""
    out = console()
    if not contact.found:
        out.print(f"{result.organization} has no contact {contact.contact_id}.")
        return
    if contact.eligible:
        eligible = Text("eligible", style="green")
    else:
        eligible = Text(
            f"not eligible: {contact.reason}, so no e-mails are planned (rules, section 1)",
            style="red",
        )
    print_pairs(
        out,
        {
            "contact": f"{contact.contact_id} of {result.organization}, as of {result.as_of}",
            "eligible": eligible,
            "state": contact.state,
            "birth date": contact.birth_date,
            "effective date": contact.effective_date,
            "issues": ", ".join(contact.issues) if contact.eligible else None,
        },
    )
    for event in contact.events:
        out.print()
        _print_event(out, event)


def _print_event(out: Console, event: EventExplanation) -> None:
    name = event.email_type
    if event.campaign_instance_id is not None:
        name += f" (instance {event.campaign_instance_id})"
    if event.status is None:
        outcome = Text("no e-mail", style="dim")
    elif event.status == "skipped":
        outcome = Text(
            f"skipped on {event.send_date}: {event.skip_reason}", style=_STATUS_STYLE["skipped"]
        )
    else:
        outcome = Text(f"goes out on {event.send_date}", style=_STATUS_STYLE["pre-scheduled"])
    out.print(Text.assemble((name, "bold"), "  ", outcome), soft_wrap=True)
    steps = Table(box=None, pad_edge=False, show_header=False)
    steps.add_column("rule", style="dim", no_wrap=True)
    steps.add_column("what happened")
    for step in event.steps:
        steps.add_row(f"  section {step.rule}", step.text)
    out.print(steps)


@shows_printable
def print_preview(result: RunResult) -> None:
    """Show what a run would change."""
    out = console()
    preview = result.preview or Preview()
    out.print(
        Text.assemble(
            (result.organization, "bold"),
            f" as of {result.as_of}: {result.rows_planned:,} rows planned; nothing was changed",
        ),
        soft_wrap=True,
    )
    out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("type")
    for change in _CHANGES:
        table.add_column(change, justify="right")
    for name, changes in preview.types.items():
        table.add_row(name, *(f"{getattr(changes, change):,}" for change in _CHANGES))
    sums = [
        sum(getattr(changes, change) for changes in preview.types.values()) for change in _CHANGES
    ]
    table.add_row("total", *(f"{number:,}" for number in sums), style="bold")
    out.print(table)
    if not any(sums[: _CHANGES.index("unchanged")]):
        out.print("\nA run would not change the current plan.")
    else:
        _print_days(out, result, preview)
        _print_examples(out, preview)
    print_review(out, result)
    out.print()
    print_pairs(out, {"time": seconds(result.wall_s), "run": result.run_id})


def _print_days(out: Console, result: RunResult, preview: Preview) -> None:
    """Show the days whose volume changes most, in the order of the calendar."""
    before, after = preview.volume_present, result.volume
    days = sorted(
        before.keys() | after.keys(), key=lambda day: -abs(after.get(day, 0) - before.get(day, 0))
    )
    changed = [day for day in days if after.get(day, 0) != before.get(day, 0)]
    if not changed:
        return
    out.print(f"\ne-mails per day change on {len(changed):,} days; most on:")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("day", "present", "planned", "change"):
        table.add_column(name, justify="left" if name == "day" else "right")
    for day in sorted(changed[:_DAYS]):
        old, new = before.get(day, 0), after.get(day, 0)
        table.add_row(
            f"{dt.date.fromisoformat(day):%a} {day}", f"{old:,}", f"{new:,}", f"{new - old:+,}"
        )
    out.print(table)


def _print_examples(out: Console, preview: Preview) -> None:
    out.print("\nfor example:")
    shown: dict[tuple[str, str], int] = {}
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column()
    for example in preview.examples:
        key = (example.email_type, example.change)
        shown[key] = shown.get(key, 0) + 1
        if shown[key] <= _EXAMPLES:
            what = f"  {example.email_type} of contact {example.contact_id}"
            table.add_row(what, example.change, _movement(example))
    out.print(table)


def _movement(change: RowChange) -> str:
    before = _row(change.date_before, change.status_before, change.reason_before)
    after = _row(change.date_after, change.status_after, change.reason_after)
    return " -> ".join(part for part in (before, after) if part)


def _row(date: str | None, status: str | None, reason: str | None) -> str:
    if status is None:
        return ""
    return f"{date} ({reason or status})" if status != "pre-scheduled" else str(date)
