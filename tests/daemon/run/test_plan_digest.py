"""The digest of a plan: equal for equal plans, another one for any change of any row."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedctl.synthetic import make_organization
from schedd.engine.configuration import Configuration
from schedd.engine.packing import pack_kinds
from schedd.engine.rows import FOLLOWUP_TYPES, SKIP_REASONS, Rows, make_rows
from schedd.engine.run import Run
from schedd.run import plan_digest
from schedd.run.chunk_data import IssueColumns, PlannedFollowUp, Sums
from schedd.store.followups import FollowUpRow
from schedproto import RunResult, SavedPlan, SchedulerError
from tests.support.plans import CASES, GOLDEN, golden, make_database, read_plan, run_locally

AS_OF = "2026-11-23"
D = dt.date.fromisoformat(AS_OF).toordinal() - dt.date(1970, 1, 1).toordinal()
TYPES = [{"name": "offer", "priority": 5}, {"name": "other", "priority": 5}]
INSTANCES = [
    {"id": 7, "campaign_type": "offer", "email_template": "a", "sms_template": None},
    {"id": 8, "campaign_type": "offer", "email_template": "a", "sms_template": None},
    {"id": 9, "campaign_type": "other", "email_template": "a", "sms_template": "s"},
]
RUN = Run(D, Configuration(), TYPES, INSTANCES)
IDS = np.array([-(2**40), 1, 2, 3, 2**40], np.int64)

row = st.tuples(
    st.integers(0, len(IDS) - 1),
    st.integers(0, len(RUN.classes) - 1),
    st.integers(D, D + 400),
    st.integers(D - 200, D + 400),
    st.integers(0, len(SKIP_REASONS) - 1),
)
rows = st.lists(row, min_size=1, max_size=30)


def table(plan: list[tuple[int, ...]]) -> Rows:
    who, row_class, date, event, reason = (np.array(column) for column in zip(*plan, strict=True))
    return make_rows(who, row_class, date, event, date, reason)


def sums(plan: list[tuple[int, ...]], run: Run = RUN, ids: Any = IDS) -> Sums:
    if not plan:
        return 0, 0
    columns = table(plan)
    kinds = pack_kinds(columns.row_class, columns.reason)
    return plan_digest.row_sums(run, ids, columns, kinds)


@given(rows, st.data())
def test_any_field_of_any_row(plan: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Any changed field, additional row or missing row changes both numbers."""
    index = data.draw(st.integers(0, len(plan) - 1))
    column = data.draw(st.integers(0, 4))
    limits = (len(IDS), len(RUN.classes), 10**6, 10**6, len(SKIP_REASONS))
    changed = list(plan[index])
    changed[column] = (
        changed[column] + data.draw(st.integers(1, min(limits[column] - 1, 10**4)))
    ) % limits[column]
    others = [plan[:index] + plan[index + 1 :], [*plan, plan[index]]]
    if tuple(changed) != plan[index]:
        others.append([*plan[:index], tuple(changed), *plan[index + 1 :]])
    for other in others:
        one, two = sums(plan), sums(other)
        assert one[0] != two[0]
        assert one[1] != two[1]


@given(rows, rows)
def test_exchanged_fields(one: list[tuple[int, ...]], two: list[tuple[int, ...]]) -> None:
    """Two rows that exchange a field are other rows."""
    a, b = one[0], two[0]
    for column in range(5):
        exchanged = [
            (*a[:column], b[column], *a[column + 1 :]),
            (*b[:column], a[column], *b[column + 1 :]),
        ]
        if sorted(exchanged) != sorted([a, b]):
            assert sums(exchanged) != sums([a, b])


@given(rows, st.randoms(use_true_random=False), st.integers(0, 30))
def test_order_and_chunks(plan: list[tuple[int, ...]], chance: Any, cut: int) -> None:
    """Neither the order of the rows nor how they are cut into chunks matters."""
    shuffled = list(plan)
    chance.shuffle(shuffled)
    assert plan_digest.add(sums(shuffled[:cut]), sums(shuffled[cut:])) == sums(plan)


def test_what_classes_say() -> None:
    """Type, priority, instance, templates and send time of a class count.

    Its number in the run does not.
    """
    plan = [(1, row_class, D, D + 14, 0) for row_class in range(len(RUN.classes))]
    found = {sums([entry]) for entry in plan}
    settings: list[dict[str, Any]] = [{"send_time": "09:00:00"}, {"templates": {"birthday": "new"}}]
    for values in settings:
        found.add(
            sums(
                [plan[1]], Run(D, dataclasses.replace(Configuration(), **values), TYPES, INSTANCES)
            )
        )
    for name, value in (("id", 70), ("email_template", "b"), ("sms_template", "t")):
        changed = [INSTANCES[0] | {name: value}, *INSTANCES[1:]]
        run = Run(D, Configuration(), TYPES, changed)
        [row_class] = [
            c for c in range(4, 7) if (run.classes.instance[c] == (70 if name == "id" else 7))
        ]
        found.add(sums([(1, row_class, D, D + 14, 0)], run))
    found.add(
        sums([plan[4]], Run(D, Configuration(), [TYPES[0] | {"priority": 6}, TYPES[1]], INSTANCES))
    )
    assert len(found) == len(plan) + 6

    fewer = Run(D, Configuration(), TYPES, INSTANCES[2:])
    assert sums([(1, 4, D, D, 0)], fewer) == sums([(1, 6, D, D, 0)])


def test_follow_ups_and_issues() -> None:
    """Every field of a follow-up counts, its parent too; so do contact and reason of an issue."""
    followup = FollowUpRow(
        contact_id=1,
        email_type=FOLLOWUP_TYPES[0],
        scheduled_send_date=AS_OF,
        status="pre-scheduled",
        skip_reason=None,
        priority=10,
        campaign_instance_id=7,
        email_template="t",
        sms_template=None,
        event_year=2026,
        event_month=11,
        event_day=21,
        metadata='{"parent_id":1}',
    )
    changed: dict[str, Any] = {
        "contact_id": 2,
        "email_type": FOLLOWUP_TYPES[1],
        "scheduled_send_date": "2026-11-24",
        "status": "skipped",
        "skip_reason": "x",
        "priority": 20,
        "campaign_instance_id": None,
        "email_template": "u",
        "sms_template": "s",
        "event_year": 2025,
        "event_month": 10,
        "event_day": 20,
        "metadata": "{}",
    }
    assert set(changed) == set(FollowUpRow.__struct_fields__)

    def of_row(row: FollowUpRow, send_time: str = "08:30:00") -> Sums:
        return plan_digest.followup_sums(send_time, [PlannedFollowUp(0, 0, D, 0, row)])

    found = {of_row(followup), of_row(followup, "09:00:00")}
    for name, value in changed.items():
        found.add(of_row(msgspec.structs.replace(followup, **{name: value})))
    assert len(found) == 2 + len(changed)

    def issues(*pairs: tuple[int, int]) -> Sums:
        contact_id, kind = zip(*pairs, strict=True)
        return plan_digest.issue_sums(
            IssueColumns(np.array(contact_id, np.int64), np.array(kind, np.int8))
        )

    one = issues((1, 3), (2, 5))
    assert issues((2, 5), (1, 3)) == one
    assert (
        len(
            {
                one,
                issues((1, 5), (2, 3)),
                issues((1, 3)),
                issues((1, 3), (2, 6)),
                issues((1, 3), (3, 5)),
            }
        )
        == 5
    )


@pytest.mark.parametrize("case", CASES[:4])
def test_golden_plans(case: str, tmp_path: Path) -> None:
    """A plan has one digest.

    It is equal for any number of workers, in either mode, before and after the plan is written.
    """
    path = make_database(tmp_path / "org.db", (GOLDEN / f"{case}.sql").read_text())
    day, config = golden(case)["as_of"], golden(case).get("config", {})

    def digest(**spec: Any) -> str:
        return preview(path, tmp_path, day, config=config, **spec).digest

    digests = {
        digest(workers=workers, mode=mode)
        for workers in (1, 2, 5)
        for mode in ("reliable", "highperf")
    }
    run_locally(path, tmp_path / "scratch", day, config=config)
    assert digests == {digest()}


def preview(path: Path, folder: Path, as_of: str = AS_OF, **spec: Any) -> SavedPlan:
    plan = run_locally(path, folder / "scratch", as_of, dry_run=True, **spec).plan
    assert plan is not None
    return plan


class TestExpect:
    """A job that expects a plan writes it or nothing."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "org.db"
        make_organization(path, 300, 1, dt.date.fromisoformat(AS_OF))
        return path

    def run(self, path: Path, expect: SavedPlan, as_of: str = AS_OF, **spec: Any) -> RunResult:
        return run_locally(path, path.parent / "scratch", as_of, expect=expect, **spec)

    def refused(
        self, path: Path, expect: SavedPlan, as_of: str = AS_OF, **spec: Any
    ) -> SchedulerError:
        before = read_plan(path)
        with pytest.raises(SchedulerError) as caught:
            self.run(path, expect, as_of, **spec)
        assert caught.value.code == "plan_differs"
        assert not caught.value.retryable
        assert "schedctl preview org --save" in caught.value.hint
        assert read_plan(path) == before
        return caught.value

    def test_the_same_plan(self, path: Path, tmp_path: Path) -> None:
        """It is written, over no plan and over another one.

        A plan that changes nothing is fine, too.
        """
        run_locally(
            path, tmp_path / "scratch", AS_OF, config={"anniversary": {"birthday_days_before": 3}}
        )
        plan = preview(path, tmp_path)
        written = self.run(path, plan, workers=5, mode="highperf")
        assert written.plan == plan
        assert written.rows_inserted > 100
        again = self.run(path, plan)
        assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)
        assert self.run(path, plan, dry_run=True).plan == plan

    def test_other_contacts(self, path: Path, tmp_path: Path) -> None:
        """The refusal has the numbers then and now; where they are equal, it says so."""
        run_locally(path, tmp_path / "scratch", AS_OF)
        plan = preview(path, tmp_path)
        self.change(
            path, "UPDATE contacts SET birth_date = date(birth_date, '+1 day') WHERE id = 5"
        )
        assert f"both have {plan.rows:,} rows, but some differ" in self.refused(path, plan).message
        self.change(
            path, "UPDATE contacts SET email = NULL WHERE id = 5; DELETE FROM contacts WHERE id = 6"
        )
        error = self.refused(path, plan)
        assert "contacts: 300 then, 299 now" in error.message
        assert f"rows: {plan.rows:,} then, " in error.message
        assert error.details["contacts"] == "300 -> 299"
        assert "birthday" in error.message

    def test_other_settings(self, path: Path, tmp_path: Path) -> None:
        """Another date or configuration is named.

        One that leads to the same plan does not count.
        """
        plan = preview(path, tmp_path)
        run_locally(path, tmp_path / "scratch", AS_OF)
        assert (
            "date of the run: 2026-11-23 then, 2026-12-23 now"
            in self.refused(path, plan, "2026-12-23").message
        )
        error = self.refused(path, plan, config={"send_time": "10:00:00"})
        assert "configuration: the daemon's defaults (" in error.message
        self.change(
            path,
            "INSERT INTO scheduler_config(version, toml, created_at, created_by) "
            "VALUES (4, '[anniversary]\nbirthday_days_before = 9', '2026-11-01', 'test')",
        )
        assert (
            "configuration: the daemon's defaults then, version 4 now"
            in self.refused(path, plan).message
        )
        assert (
            self.run(
                path, plan, config={"anniversary": {"birthday_days_before": 14}}
            ).rows_unchanged
            == plan.rows
        )

    def test_guards_stay(self, path: Path, tmp_path: Path) -> None:
        """A reviewed plan that exceeds a guard still has to be accepted."""
        run_locally(path, tmp_path / "scratch", AS_OF)
        self.change(path, "UPDATE contacts SET zip_code = NULL")
        plan = preview(path, tmp_path)
        with pytest.raises(SchedulerError, match="guards allow"):
            self.run(path, plan)
        assert self.run(path, plan, accept_changes=True).rows_planned == 0

    @staticmethod
    def change(path: Path, sql: str) -> None:
        make_database(path, sql)
