"""The kinds of findings: severities, meaning and remedy.

docs/CHECK.md has the same list.
"""

from __future__ import annotations

from dataclasses import dataclass

from schedproto.checks import ERROR, NOTE, WARNING


@dataclass(frozen=True)
class Code:
    """A kind of finding.

    severities: those that its findings can have, the usual one first.   fix: the remedy.
    """

    severities: tuple[str, ...]
    meaning: str
    fix: str


_RENAME = "Rename the column in the application, or add a generated column with the expected name."

#: In the order of the documentation: the file, contacts, states, history, campaigns, engagement.
CODES: dict[str, Code] = {
    "contacts_missing": Code(
        (ERROR,), "The file has no table `contacts`.", "Check that this is the right file."
    ),
    "contacts_empty": Code(
        (ERROR,), "The table `contacts` has no rows.", "Check that this is the right file."
    ),
    "column_missing": Code(
        (ERROR,), "A required column is missing, or `id` is not the key.", _RENAME
    ),
    "foreign_schema": Code(
        (ERROR,),
        "A table, constraint, trigger or index of the application rejects what a run writes.",
        "The message names the object; change it in the application.",
    ),
    "duplicate_keys": Code(
        (ERROR,),
        "Several rows of the sender have the same (contact_id, email_type, scheduled_send_date).",
        "Decide which of the rows is correct and remove the others; the scheduler never changes "
        "rows of the sender.",
    ),
    "duplicate_plan_rows": Code(
        (WARNING,),
        "Several planned rows have the same key; a run keeps at most one of them.",
        "`schedctl adopt` removes the surplus rows.",
    ),
    "damaged_index": Code(
        (ERROR,),
        "An index of `email_schedules` is inconsistent with its table, or the table is damaged.",
        "Run `REINDEX` in the sqlite3 shell; if the finding stays, restore the file from a backup.",
    ),
    "unique_index": Code(
        (ERROR,),
        "A unique index other than the scheduler's key can reject rows of a plan.",
        "`schedctl adopt` drops the index after showing it; the scheduler's own key prevents "
        "duplicates.",
    ),
    "unique_constraint": Code(
        (ERROR,),
        "A UNIQUE constraint in the table's declaration can reject rows of a plan.",
        "Recreate the table without the constraint; SQLite cannot drop it.",
    ),
    "trigger": Code(
        (NOTE, WARNING),
        "A trigger runs when the scheduler writes; a warning if it can reject rows or changes "
        "the plan.",
        "Check that it neither changes nor rejects rows with the status `pre-scheduled` or "
        "`skipped`.",
    ),
    "plan_incomplete": Code(
        (NOTE,),
        "Columns or indexes of `email_schedules` are missing.",
        "No action needed: `schedctl adopt` or the first run adds them.",
    ),
    "other_column_name": Code(
        (ERROR,),
        "A column that a run reads is missing or empty, and another one looks like it.",
        _RENAME,
    ),
    "nobody_eligible": Code(
        (ERROR,),
        "No contact may get e-mails, so a run would plan nothing.",
        "Correct what the other findings name; they say why contacts are not eligible.",
    ),
    "unreadable_date": Code(
        (ERROR, WARNING),
        "Dates cannot be read, so these contacts lose their e-mails or rows count for no day.",
        "Add the format to `contacts.date_formats`, or correct the values in the application.",
    ),
    "ambiguous_date": Code(
        (ERROR,),
        "Dates can be read as month and day or as day and month, and no value decides which it is.",
        "Find out how the dates were written, then add the format to `contacts.date_formats`.",
    ),
    "mixed_dates": Code(
        (ERROR,),
        "Some dates can only be month and day, others only day and month.",
        "Write all dates as YYYY-MM-DD in the application.",
    ),
    "future_birth_date": Code(
        (WARNING,),
        "Birth dates after the date of the run count as unreadable.",
        "Correct the values in the application.",
    ),
    "improbable_birth_date": Code(
        (WARNING,),
        "Birth dates before 1900, which are probably typing errors.",
        "Correct the values.",
    ),
    "placeholder_birth_date": Code(
        (WARNING,),
        "One birth date is far more frequent than chance allows, so it is probably a placeholder.",
        "Set the birth date of these contacts to NULL; they get birthday e-mails on a wrong day "
        "otherwise.",
    ),
    "placeholder_birthday": Code(
        (WARNING,),
        "Far more contacts than chance allows have their birthday on 1 January.",
        "Check whether the day is a placeholder for an unknown one; if so, use NULL.",
    ),
    "unreadable_boolean": Code(
        (WARNING,),
        "Values cannot be read as true or false; in doubt no e-mail goes out.",
        "Use 0 and 1 (or true/false, yes/no) in the application.",
    ),
    "missing_email": Code((WARNING,), "Contacts have no e-mail address.", "Add the addresses."),
    "invalid_email": Code(
        (WARNING,),
        "E-mail addresses have a fault, so these contacts are not eligible.",
        "Correct the addresses in the application.",
    ),
    "shared_email": Code(
        (WARNING,),
        "Several contacts have one address, which gets every e-mail several times.",
        "Merge the contacts, or clear the address of all but one.",
    ),
    "shared_with_opted_out": Code(
        (WARNING,),
        "An eligible contact has the address of a contact that is suppressed or opted out.",
        "Check whether it is the same person; the address gets e-mails while one of its "
        "contacts is eligible.",
    ),
    "missing_zip": Code(
        (WARNING,),
        "Contacts have no ZIP, so their state's rules are not known and they are not eligible.",
        "Add the ZIPs.",
    ),
    "unknown_zip": Code(
        (WARNING,),
        "ZIPs have a form that is not read, or are not in the ZIP table.",
        "Correct the ZIPs.",
    ),
    "zip_forms": Code(
        (NOTE,),
        "ZIPs that are not five digits, but are read.",
        "No action needed; check some of the examples.",
    ),
    "suppressed_status": Code(
        (WARNING,),
        "Contacts with a status that is not active get no e-mails.",
        "If they should get e-mails, add the status to `contacts.active_statuses` "
        "(`--accept-status`).",
    ),
    "opt_out_column": Code(
        (ERROR,),
        "A column that is not configured says that contacts do not want e-mails.",
        "Add the column to `contacts.opt_out_columns`.",
    ),
    "opt_out_column_unclear": Code(
        (ERROR,),
        "A column looks like an opt-out column, but its values cannot be read or would suppress "
        "most contacts.",
        "Find out what the column means; add it to `contacts.opt_out_columns` if a true value "
        "means no e-mail.",
    ),
    "opt_out_column_unused": Code(
        (NOTE,),
        "A column looks like an opt-out column but has no true values yet.",
        "Add the column to `contacts.opt_out_columns`.",
    ),
    "opt_in_column": Code(
        (ERROR,),
        "A column says who may get e-mails, and some contacts may not; opt-in columns are not "
        "read.",
        "Add a generated column with the opposite meaning to the table, for example `opted_out`.",
    ),
    "state_without_rule": Code(
        (NOTE,),
        "States of eligible contacts have no exclusion rule.",
        "Have counsel confirm that no rule applies; `exclusion.rules` adds one.",
    ),
    "preset_differs": Code(
        (WARNING,),
        "The rules of states with contacts differ from the preset `2026`.",
        'Have counsel decide; `exclusion.preset = "2026"` uses the newer rules.',
    ),
    "unknown_status": Code(
        (WARNING,),
        "Rows have a status that the rules do not know; they count as sent.",
        "If such rows were never sent, add the status to `history.void_statuses`.",
    ),
    "unknown_type": Code(
        (ERROR, WARNING),
        "Sent rows have an e-mail type that no rule knows; if it is another name of a known "
        "type, e-mails go out a second time.",
        "Add the name to `history.aliases`, if it is another name of a known type.",
    ),
    "unreadable_contact_id": Code(
        (ERROR, WARNING),
        "Rows have a contact id that cannot be read; they match no contact.",
        "Correct the ids.",
    ),
    "text_contact_id": Code(
        (NOTE,),
        "Contact ids are stored as text or fractions; they are matched by their number.",
        "No action needed; an INTEGER column is faster.",
    ),
    "orphan_rows": Code(
        (WARNING,),
        "Rows belong to contacts that do not exist; they are ignored.",
        "Check whether contacts were deleted or got new ids: with new ids, e-mails go out a "
        "second time.",
    ),
    "campaign_not_planned": Code(
        (ERROR,),
        "A campaign has a value that cannot be read, so it is not planned.",
        "Correct the value in the application.",
    ),
    "campaign_without_contacts": Code(
        (WARNING,),
        "An active campaign reaches no eligible contact.",
        "Check the campaign's targets, states, carriers and dates, or end it.",
    ),
    "unknown_campaign": Code(
        (WARNING,),
        "Rows of `contact_campaigns` name a campaign instance that does not exist.",
        "Remove the rows or correct the ids.",
    ),
    "missing_date": Code(
        (WARNING,),
        "Targets of a campaign have no trigger date, so they get no e-mail.",
        "Add the dates.",
    ),
    "unreadable_integer": Code(
        (WARNING,), "Values cannot be read as a whole number.", "Correct the values."
    ),
}
