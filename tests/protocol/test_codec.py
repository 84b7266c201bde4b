"""Messages: round trips, growth in both directions, and a decoder that survives anything."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedproto import (
    BackupList,
    ErrorCode,
    ErrorInfo,
    Job,
    JobSpec,
    OrganizationConfiguration,
    OrganizationInfo,
    Report,
    RunResult,
    SchedulerError,
    VolumeInfo,
)
from schedproto import checks as c
from schedproto import messages as m
from schedproto import transfers as t
from schedproto.checks import Adoption, CheckFinding, CheckReport
from schedproto.codec import MAGIC, CodecError, decode_reply, decode_request, encode, encode_request
from schedproto.diagnosis import Diagnosis
from schedproto.ids import check_organization, new_job_id
from schedproto.keys import KeyFormatError, parse_public_keys, parse_secret_key, render
from schedproto.message import Done, Message
from schedproto.transfers import Transfer

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
JOB = Job(job_id="job-1", spec=JobSpec(organization="org-1"), state="queued", submitted_at=NOW)
FINDING = CheckFinding(
    code="unreadable_date", severity="error", row_ids=[1, "a"], settings={"a": {"b": [1]}}
)
REQUESTS: list[m.AnyRequest] = [
    m.Hello(id="1"),
    m.GetHealth(id="1"),
    m.Submit(
        id="1",
        spec=JobSpec(organization="o", config={"a": {"b": [1, 2.5, True]}}),
        idempotency_key="k",
    ),
    m.GetJob(id="1", job_id="j"),
    m.ListJobs(id="1", states=["queued"]),
    m.Watch(id="1", job_id="j"),
    m.Unwatch(id="1", watch_id="w"),
    m.Cancel(id="1", job_id="j"),
    m.GetOrganization(id="1", organization="o"),
    m.GetVolume(id="1"),
    m.ListOrganizations(id="1"),
    m.GetConfiguration(id="1", organization="o"),
    m.CheckConfiguration(id="1", organization="o", toml="timezone = 'UTC'"),
    m.SetConfiguration(id="1", organization="o", toml="", created_by="somebody"),
    m.WithdrawConfiguration(id="1", organization="o", version=3),
    m.GetReport(id="1", organization="o"),
    m.GetBackups(id="1", organization="o"),
    m.RestoreBackup(id="1", organization="o", backup_id="b"),
    m.Diagnose(id="1"),
    c.CheckOrganization(id="1", organization="o", config={"a": {"b": 1}}, accept_statuses=["lead"]),
    c.PlanAdoption(id="1", organization="o"),
    c.AdoptOrganization(id="1", organization="o", digest="d", toml="a = 1"),
    t.OpenPull(id="1", organization="o"),
    t.OpenPush(id="1", organization="o", size_bytes=1, digest="d"),
    t.GetDigests(id="1", organization="o", transfer_id="t", first=0, count=1),
    t.GetBlocks(id="1", organization="o", transfer_id="t", blocks=[0]),
    t.OfferDigests(id="1", organization="o", transfer_id="t", first=0, digests=b"d"),
    t.PutBlocks(id="1", organization="o", transfer_id="t", blocks=[0], data=b"x"),
    t.CommitPush(id="1", organization="o", transfer_id="t"),
    t.CloseTransfer(id="1", organization="o", transfer_id="t"),
]
REPLIES = [
    m.Welcome(id="1", daemon_version="1", protocol=1, boot_id="b", pid=1),
    m.Health(
        id="1", status="serving", daemon_version="1", boot_id="b", started_at=NOW, uptime_s=1.0
    ),
    m.JobReply(id="1", job=JOB),
    m.JobList(id="1", jobs=[JOB, JOB]),
    m.JobEvent(
        id="1",
        job=msgspec.structs.replace(
            JOB, result=RunResult(run_id="r", organization="o", as_of="d", mode="m", workers=1)
        ),
    ),
    Done(id="1"),
    m.OrganizationReply(
        id="1",
        organization=OrganizationInfo(
            organization="o", path="p", size_bytes=1, journal_mode="wal", page_size=4096
        ),
    ),
    m.VolumeReply(id="1", volume=VolumeInfo(data_dir="d", total_bytes=2, free_bytes=1)),
    m.OrganizationsReply(id="1", organizations=["o"]),
    m.ConfigurationReply(
        id="1", configuration=OrganizationConfiguration(organization="o", effective={"a": {"b": 1}})
    ),
    m.ReportReply(id="1", report=Report(organization="o", generated_at="t")),
    m.BackupsReply(id="1", backups=BackupList(organization="o")),
    m.DiagnosisReply(id="1", diagnosis=Diagnosis(now=NOW)),
    c.CheckReply(id="1", report=CheckReport(organization="o", findings=[FINDING])),
    c.AdoptionReply(id="1", adoption=Adoption(organization="o", left=[FINDING])),
    t.TransferReply(id="1", transfer=Transfer(transfer_id="t", organization="o", size_bytes=1)),
    t.DigestsReply(id="1", digests=b"d"),
    t.BlocksReply(id="1", data=b"x"),
    t.WantedReply(id="1", blocks=[1]),
    m.Failure(id="1", error=ErrorInfo(code="internal", message="x")),
]


def test_every_message_is_here() -> None:
    """The lists above have every message of the protocol."""
    assert {type(message) for message in REQUESTS} == set(m.REQUESTS)
    assert {type(message) for message in REPLIES} == set(m.REPLIES)


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: type(message).__name__)
def test_requests_round_trip(message: Message) -> None:
    """A request comes out as it went in."""
    assert decode_request(encode_request(message)) == message


@pytest.mark.parametrize("message", REPLIES, ids=lambda message: type(message).__name__)
def test_replies_round_trip(message: Message) -> None:
    """A reply comes out as it went in."""
    assert decode_reply(encode(message)) == message


def changed(message: Message, **fields: Any) -> list[bytes]:
    """The message as a later release would send it: with more fields."""
    content = msgspec.msgpack.decode(encode(message)[1])
    return [MAGIC, msgspec.msgpack.encode(content | fields)]


@pytest.mark.parametrize(
    "message", [*REQUESTS, *REPLIES], ids=lambda message: type(message).__name__
)
def test_unknown_fields_are_ignored(message: Message) -> None:
    """A newer peer's additional fields do no harm."""
    decode = decode_request if message in REQUESTS else decode_reply
    assert decode(changed(message, added_later={"x": [1]})) == message


def test_missing_fields_take_their_defaults() -> None:
    """A field that an older peer does not send takes its default."""
    body = msgspec.msgpack.encode({"type": "submit", "id": "1", "spec": {"organization": "o"}})
    assert decode_request([MAGIC, body]) == m.Submit(id="1", spec=JobSpec(organization="o"))
    body = msgspec.msgpack.encode(
        {
            "type": "welcome",
            "id": "1",
            "daemon_version": "0",
            "protocol": 1,
            "boot_id": "b",
            "pid": 1,
        }
    )
    welcome = decode_reply([MAGIC, body])
    assert isinstance(welcome, m.Welcome)
    assert welcome.capabilities == []


def test_open_sets() -> None:
    """States, modes and error codes of the future are accepted by an old client."""
    job = msgspec.structs.replace(JOB, state="paused", spec=JobSpec(organization="o", mode="quick"))
    reply = decode_reply(encode(m.JobReply(id="1", job=job)))
    assert isinstance(reply, m.JobReply)
    assert reply.job.state == "paused"
    error = SchedulerError.from_info(ErrorInfo(code="of_the_future", message="m", retryable=True))
    assert error.code == ErrorCode.INTERNAL
    assert error.retryable


def test_unknown_type_keeps_its_id() -> None:
    """An unknown message type differs from a broken message, and can be answered."""
    with pytest.raises(CodecError) as caught:
        decode_request([MAGIC, msgspec.msgpack.encode({"type": "later", "id": "17"})])
    assert (caught.value.code, caught.value.request_id) == (ErrorCode.UNSUPPORTED_MESSAGE, "17")


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_any_frames(frames: list[bytes]) -> None:
    """Whatever the frames, the decoder returns a message or raises `CodecError`."""
    for decode in (decode_request, decode_reply):
        try:
            decode(frames)
        except CodecError as error:
            assert error.message


@given(st.sampled_from(REQUESTS), st.data())
def test_damaged_messages(message: Message, data: st.DataObject) -> None:
    """A message that was cut off, or has a byte changed, decodes or raises `CodecError`."""
    body = bytearray(encode_request(message)[1])
    place = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        body = body[:place]
    else:
        body[place] = data.draw(st.integers(0, 255))
    try:
        decode_request([MAGIC, bytes(body)])
    except CodecError as error:
        assert error.message


@given(st.text(max_size=120))
def test_organization_ids(text: str) -> None:
    """An accepted id is one plain file name without an ending, inside the data folder."""
    try:
        check_organization(text)
    except SchedulerError as error:
        assert error.code == ErrorCode.INVALID_ORGANIZATION
        return
    assert "/" not in text
    assert not text.startswith(".")
    assert ".." not in text
    assert text.isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        ".hidden",
        "a..b",
        "x.db",
        "a\x00",
        "a b",
        "x" * 101,
        "ü",
        "a\n",
    ],
)
def test_refused_ids(text: str) -> None:
    """Ids that could be paths, hidden files or two files."""
    with pytest.raises(SchedulerError):
        check_organization(text)


def test_job_ids_sort_by_time() -> None:
    """A later job has a later id."""
    assert new_job_id(1_700_000_000.0) < new_job_id(1_700_000_000.002) < new_job_id(1_900_000_000.0)


def test_key_files() -> None:
    """A key file that was written can be read back; other texts are refused."""
    public, secret = "a" * 39 + "#", "#" + "b" * 39
    text = render(public, secret, "test")
    assert parse_secret_key(text) == secret.encode()
    assert parse_public_keys(text) == [public.encode()]
    assert parse_public_keys(f"{public}\n# a comment\n") == [public.encode()]
    for wrong in ("", "short", f"{public} {secret}"):
        with pytest.raises(KeyFormatError):
            parse_secret_key(wrong)
