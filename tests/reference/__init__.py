"""A second implementation of the scheduling rules, one contact at a time.

Written from the text of the rules alone. Nothing here imports the daemon, and nothing of the daemon
may be copied here: only a comparison of two independent sides is worth something. Speed does not
matter.

    values         odd values of a SQLite column -> text, integer, boolean, date (section 0)
    dates          anniversaries and days (section 1)
    states         ZIP codes and names of states
    contacts       eligibility and dates of a contact (section 1)
    targets        lists of states and carriers (section 7)
    hashing        mix64 and h (section 2)
    configuration  defaults and overrides (section 13)
    records        what a run reads, as plain records
    organization   one organization's file -> records and warnings
    windows        exclusion windows (section 3)
    rows           the planned row, handled events and the catch-up (sections 4 and 5)
    anniversaries  birthday, effective_date, aep, post_window (sections 5 and 6)
    campaigns      section 7
    followups      section 8
    balance        section 9
    frequency      section 10
    plan           all of it in order: `plan(connection, as_of, overrides) -> Plan`

    organizations  random organizations, put together from random_configuration, random_contacts,
                   random_campaigns, random_history; sql writes them as a script
    invariants     section 12 checked on a plan in another way
    compare        two plans, their differences in words; the plan that a scheduled file holds
    year           a year of daily runs with a sender
"""
