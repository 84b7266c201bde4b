"""Findings on columns of contacts: suppressing statuses, opt-outs, and unusual names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from schedd.engine.coercions import boolean_of, is_blank, opted_out, trimmed
from schedd.store.tables import quoted
from schedproto import ErrorCode, SchedulerError
from schedproto.checks import CheckFinding

from .context import Example, Group, Inspection, finding, largest_first, plural


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Names of columns that suppress e-mails if they are true; those ending in `_at`, if they are set.
OPT_OUT_COLUMNS = _words(
    """
    opt_out opt_out_at optout optout_at opted_out opted_out_at is_opted_out has_opted_out
    email_opt_out email_opt_out_at email_optout email_opted_out email_opted_out_at
    has_opted_out_of_email marketing_opt_out unsubscribe unsubscribed unsubscribed_at
    unsubscribed_on is_unsubscribed email_unsubscribed email_unsubscribed_at unsubscribed_from_email
    suppressed suppressed_at is_suppressed email_suppressed email_suppressed_at blocked blocked_at
    is_blocked email_blocked blacklisted blacklisted_at is_blacklisted blocklisted blocklisted_at
    is_blocklisted bounced bounced_at is_bounced has_bounced email_bounced email_bounced_at
    hard_bounced hard_bounced_at complained complained_at has_complained spam_complaint
    spam_complaint_at spam_reported_at do_not_email do_not_contact do_not_mail do_not_market
    do_not_solicit do_not_send dnc dne dnm no_email no_emails no_contact no_marketing archived
    archived_at is_archived deleted deleted_at is_deleted removed removed_at is_removed discarded
    discarded_at deactivated deactivated_at is_deactivated disabled disabled_at is_disabled inactive
    is_inactive inactivated_at deceased deceased_at is_deceased deceased_date date_of_death
    death_date died_at died_on erased_at anonymized_at gdpr_erased_at email_invalid is_email_invalid
    email_disabled
    """
)
#: Names of columns with the opposite meaning.
OPT_IN_COLUMNS = _words(
    """
    opt_in optin opted_in is_opted_in email_opt_in email_optin email_opted_in marketing_opt_in
    newsletter_opt_in subscribed is_subscribed email_subscribed newsletter_subscribed accepts_email
    accepts_emails accepts_marketing accepts_email_marketing email_consent marketing_consent
    email_marketing_consent consent has_consent consented is_active active enabled is_enabled
    email_enabled emails_enabled email_allowed emails_allowed allow_email allow_emails allows_email
    can_email can_contact ok_to_email ok_to_contact okay_to_email receive_emails
    """
)
#: Other names of the columns that a run reads.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "email": ("email_address", "emailaddress", "e_mail", "email1", "primary_email", "mail"),
    "zip_code": (
        "zip",
        "zipcode",
        "zip5",
        "zip_5",
        "postal_code",
        "postalcode",
        "postcode",
        "mailing_zip",
        "home_zip",
    ),
    "birth_date": (
        "dob",
        "date_of_birth",
        "dateofbirth",
        "birthdate",
        "birthday",
        "birth_day",
        "born",
        "born_on",
    ),
    "effective_date": (
        "effectivedate",
        "eff_date",
        "effective",
        "effective_on",
        "policy_effective_date",
        "policy_start_date",
        "policy_date",
        "coverage_start_date",
        "coverage_start",
        "plan_effective_date",
        "start_date",
    ),
    "status": ("contact_status", "client_status", "lead_status", "customer_status"),
}
_LOST = {
    "email": "no contact can get e-mails",
    "zip_code": "the state's rules are unknown, so no contact gets e-mails",
    "birth_date": "there are no birthday e-mails and no birthday windows",
    "effective_date": "there are no effective-date e-mails and no effective-date windows",
    "status": "contacts of every status get e-mails",
}


def status_findings(inspection: Inspection) -> Iterator[CheckFinding]:
    """Yield the statuses that suppress contacts; those to accept have a suggested configuration.

    Raises `SchedulerError` if no contact has a status that is to be accepted.
    """
    if not inspection.schema.has("contacts", "status"):
        return
    active = inspection.configuration.active_statuses
    suppressed: dict[str, Group] = {}
    # Nearly all contacts have the usual status, so it is left out of the sort.
    where = "status COLLATE BINARY <> 'active'" if "active" in active else "status IS NOT NULL"
    for value, count, row_id in inspection.distinct("contacts", ["status"], where):
        status = trimmed(value).lower()
        if status and status not in active:
            suppressed.setdefault(status, Group()).add(count, row_id, value)
    _check_accepted(inspection, suppressed)
    accepted = [status for status in suppressed if status in inspection.accept_statuses]
    settings = {"contacts": {"active_statuses": [*active, *accepted]}} if accepted else {}
    for status, group in largest_first(suppressed).items():
        if status in accepted:
            fix = f"Add {status!r} to contacts.active_statuses, as requested."
        else:
            fix = (
                f"If they should get e-mails, add {status!r} to contacts.active_statuses "
                f"(--accept-status {status})."
            )
        yield finding(
            "suppressed_status",
            f"{plural(group.count, 'contact')} with the status {status!r} "
            f"{'gets' if group.count == 1 else 'get'} no e-mails.",
            fix=fix,
            table="contacts",
            column="status",
            name=status,
            count=group.count,
            examples=group.examples,
            settings=settings if status in accepted else {},
        )


def _check_accepted(inspection: Inspection, suppressed: Collection[str]) -> None:
    """Raise `SchedulerError` if no contact has one of the statuses that are to be accepted."""
    known = {*inspection.configuration.active_statuses, *suppressed}
    unknown = [status for status in inspection.accept_statuses if status not in known]
    if unknown:
        raise SchedulerError(
            ErrorCode.INVALID_ARGUMENT,
            f"no contact has the status {unknown[0]!r:.60}",
            hint=f"Suppressed are: {', '.join(sorted(suppressed)[:20]) or 'none'}.",
        )


# Opt-outs -----------------------------------------------------------------------------------------


def opt_out_findings(inspection: Inspection) -> Iterator[CheckFinding]:
    """Yield opt-out columns that are not configured, and opt-in columns."""
    columns = inspection.schema.columns["contacts"] - set(inspection.configuration.opt_out_columns)
    candidates = [_OptOutColumn(inspection, name) for name in sorted(columns & OPT_OUT_COLUMNS)]
    known = inspection.configuration.opt_out_columns
    usable = [candidate.column for candidate in candidates if candidate.usable]
    settings = {"contacts": {"opt_out_columns": [*known, *usable]}}
    for candidate in candidates:
        yield candidate.finding(settings)
    for name in sorted(columns & OPT_IN_COLUMNS):
        yield from _opt_in(inspection, name)


class _OptOutColumn:
    """The values of a possible opt-out column.

    yes: number of rows that it opts out.   odd: those of them with a value that is not a boolean.
    most: whether it opts out more than half of all rows.
    """

    def __init__(self, inspection: Inspection, column: str) -> None:
        self.column, self.yes, self.odd = column, 0, 0
        self.examples: list[Example] = []
        total = 0
        timed = column.endswith("_at")
        for value, count, row_id in inspection.distinct("contacts", [column]):
            total += count
            if opted_out(column, value):
                self.yes += count
                self.odd += count if not timed and boolean_of(value) is None else 0
                self.examples.append((row_id, value))
        self.most = self.yes * 2 > total

    @property
    def usable(self) -> bool:
        """Return whether the column can be configured without a review."""
        return not self.odd and not self.most

    def finding(self, settings: dict[str, Any]) -> CheckFinding:
        many = plural(self.yes, "contact")
        fields: dict[str, Any] = {"table": "contacts", "column": self.column, "count": self.yes}
        if not self.usable:
            why = "most" if self.most else "values that cannot be read as true or false"
            return finding(
                "opt_out_column_unclear",
                f"The column contacts.{self.column} looks like an opt-out column and is not "
                f"configured; it has a value for {many} ({why}), who get e-mails.",
                examples=self.examples,
                **fields,
            )
        fix = f'Add "{self.column}" to contacts.opt_out_columns.'
        if not self.yes:
            return finding(
                "opt_out_column_unused",
                f"The column contacts.{self.column} looks like an opt-out column, is not "
                "configured and has no true values yet.",
                fix=fix,
                settings=settings,
                **fields,
            )
        return finding(
            "opt_out_column",
            f"The column contacts.{self.column} says that {many} want no e-mails, but it is not "
            "configured, so they get them.",
            fix=fix,
            settings=settings,
            examples=self.examples,
            **fields,
        )


def _opt_in(inspection: Inspection, column: str) -> Iterator[CheckFinding]:
    no = Group()
    for value, count, row_id in inspection.distinct(
        "contacts", [column], f"{quoted(column)} IS NOT NULL"
    ):
        if boolean_of(value) is False and not is_blank(value):
            no.add(count, row_id, value)
    if no.count:
        yield finding(
            "opt_in_column",
            f"The column contacts.{column} says for {plural(no.count, 'contact')} that they may "
            "not get e-mails, but opt-in columns are not read, so they get them.",
            fix="Add a column with the opposite meaning: "
            f"ALTER TABLE contacts ADD COLUMN opted_out AS (NOT {column}).",
            table="contacts",
            column=column,
            count=no.count,
            examples=no.examples,
        )


# Other names --------------------------------------------------------------------------------------


def name_findings(inspection: Inspection) -> Iterator[CheckFinding]:
    """Yield columns that are missing or empty while one with a similar name has values."""
    columns = inspection.schema.columns["contacts"]
    for column, others in OTHER_NAMES.items():
        found = [name for name in others if name in columns]
        if found and (column not in columns or not _filled(inspection, column)):
            filled = [(name, count) for name in found if (count := _filled(inspection, name))]
            if filled:
                yield _other_name(column, filled, missing=column not in columns)


def _filled(inspection: Inspection, column: str) -> int:
    """Return the number of contacts with a value in a column."""
    name = quoted(column)
    has_value = f"{name} NOT NULL AND {name} COLLATE BINARY <> ''"
    sql = f"SELECT count(*) FROM contacts WHERE {has_value}"
    return int(inspection.connection.execute(sql).get)


def _other_name(column: str, filled: Sequence[tuple[str, int]], *, missing: bool) -> CheckFinding:
    name, count = max(filled, key=lambda item: item[1])
    fix = f"Rename it: ALTER TABLE contacts RENAME COLUMN {name} TO {column}"
    fix += (
        f", or add ALTER TABLE contacts ADD COLUMN {column} AS ({name})."
        if missing
        else " (drop the empty one)."
    )
    return finding(
        "other_column_name",
        f"The column contacts.{column} is {'missing' if missing else 'empty'}, so {_LOST[column]}; "
        f"contacts.{name} has {plural(count, 'value')}.",
        fix=fix,
        table="contacts",
        column=column,
        name=name,
        count=count,
    )
