"""Answers of an S3 server: error codes, conflicts, redirects, and the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schedbucket import load_settings
from schedbucket.object_store import Condition, ConditionFailedError, MissingObjectError
from schedbucket.s3_store import BucketStore
from schedbucket.settings import LIBRARY_VARIABLES
from schedproto import ErrorCode, SchedulerError
from tests.support.answering_server import AnsweringServer, Failure

CREATE, REPLACE = Condition(None), Condition("e0")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AnsweringServer]:
    monkeypatch.setattr("schedbucket.s3_store._PAUSE_S", 0.001)
    server = AnsweringServer()
    yield server
    server.close()


@pytest.fixture
def store(server: AnsweringServer) -> BucketStore:
    return BucketStore(server.settings())


#: Requests without a condition.
PLAIN: dict[str, Callable[[BucketStore], Any]] = {
    "get": lambda store: store.get("k"),
    "head": lambda store: store.head("k"),
    "put_file": lambda store: store.put_file("k", Path(__file__)),
    "names": lambda store: store.names("orgs/"),
    "objects": lambda store: store.objects("orgs/"),
    "delete": lambda store: store.delete("k"),
}
CONDITIONAL: dict[str, Callable[[BucketStore, Condition], Any]] = {
    "put": lambda store, condition: store.put("k", b"x", condition),
    "put_file": lambda store, condition: store.put_file("k", Path(__file__), condition),
}
ALL = PLAIN | {
    f"conditional {name}": lambda store, write=write: write(store, REPLACE)
    for name, write in CONDITIONAL.items()
}


def error_of(request: Callable[[BucketStore], Any], store: BucketStore) -> SchedulerError:
    with pytest.raises(SchedulerError) as caught:
        request(store)
    return caught.value


# Conflicts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_without_a_condition_is_retried(
    server: AnsweringServer, store: BucketStore, name: str, status: int
) -> None:
    """A 409 or 412 of a request without a condition is retried (OVH sends such a 409)."""
    code = "OperationAborted" if status == 409 else "PreconditionFailed"
    server.failures.extend([Failure(status, code)] * 2)
    PLAIN[name](store)
    assert len(server.requests) == 3
    assert not server.failures


@pytest.mark.parametrize("name", PLAIN)
def test_a_conflict_that_stays(server: AnsweringServer, store: BucketStore, name: str) -> None:
    """A conflict that does not pass is an error that may be retried later, not a lost race."""
    server.always = Failure(409, "OperationAborted")
    error = error_of(PLAIN[name], store)
    assert error.code == ErrorCode.BUCKET_UNREACHABLE
    assert error.retryable
    assert "409" in error.message
    assert len(server.requests) == 4


@pytest.mark.parametrize("name", CONDITIONAL)
@pytest.mark.parametrize("condition", [CREATE, REPLACE])
@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "ConditionalRequestConflict"), (409, "OperationAborted"), (412, "PreconditionFailed")],
)
def test_a_conflict_of_a_conditional_write(
    server: AnsweringServer,
    store: BucketStore,
    name: str,
    condition: Condition,
    status: int,
    code: str,
) -> None:
    """A conditional write is never repeated by the store: its caller reads the object first."""
    server.failures.append(Failure(status, code))
    with pytest.raises(ConditionFailedError):
        CONDITIONAL[name](store, condition)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_missing_object_and_a_missing_bucket(
    server: AnsweringServer, store: BucketStore, name: str
) -> None:
    """A 404 of an object and of a bucket are different errors; obstore has one class for both."""
    server.failures.append(Failure(404, "NoSuchKey"))
    with pytest.raises(ConditionFailedError):
        CONDITIONAL[name](store, REPLACE)
    for condition in (CREATE, REPLACE):
        server.failures.append(Failure(404, "NoSuchBucket"))
        with pytest.raises(SchedulerError, match="no such bucket") as caught:
            CONDITIONAL[name](store, condition)
        assert caught.value.code == ErrorCode.BUCKET_DENIED
    for read in ("get", "head"):
        server.failures.append(Failure(404, "NoSuchKey"))
        with pytest.raises(MissingObjectError):
            PLAIN[read](store)
    server.failures.append(Failure(404, "NoSuchKey"))
    store.delete("k")


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("failure", "hint"),
    [
        (Failure(400, "ExpiredToken"), "AWS_SESSION_TOKEN"),
        (Failure(403, "ExpiredToken"), "AWS_SESSION_TOKEN"),
        (Failure(403, "RequestTimeTooSkewed"), "clock"),
        (Failure(301, "PermanentRedirect"), "AWS_REGION"),
        (Failure(400, "AuthorizationHeaderMalformed"), "AWS_REGION"),
        (Failure(403, "InvalidAccessKeyId"), "AWS_ACCESS_KEY_ID"),
        (Failure(403, "SignatureDoesNotMatch"), "AWS_SECRET_ACCESS_KEY"),
        (Failure(401), "AWS_ACCESS_KEY_ID"),
        (Failure(501, "NotImplemented"), "requirements"),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Failure) else "",
)
def test_refusals(
    server: AnsweringServer, store: BucketStore, name: str, failure: Failure, hint: str
) -> None:
    """Each refusal says what to do about it, whatever the request was."""
    server.always = failure
    error = error_of(ALL[name], store)
    assert error.code == ErrorCode.BUCKET_DENIED
    assert not error.retryable
    assert hint in error.hint, error.hint


@pytest.mark.parametrize("name", ["put_file", "conditional put", "conditional put_file"])
@pytest.mark.parametrize("status", [301, 307])
def test_redirected_writes(
    server: AnsweringServer, store: BucketStore, name: str, status: int
) -> None:
    """A write is not sent to another address than the one that was set."""
    elsewhere = AnsweringServer()
    try:
        code = "TemporaryRedirect" if status == 307 else "PermanentRedirect"
        server.always = Failure(status, code, {"Location": f"{elsewhere.url}/b/k"})
        error = error_of(ALL[name], store)
        assert error.code == ErrorCode.BUCKET_DENIED
        assert "AWS_ENDPOINT_URL_S3" in error.hint
        assert elsewhere.requests == []
    finally:
        elsewhere.close()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("failure", [Failure(503, "SlowDown"), Failure(500), Failure(429)])
def test_answers_that_pass(
    server: AnsweringServer, store: BucketStore, name: str, failure: Failure
) -> None:
    """A server that is overloaded, or has an error of its own, is one to ask again later."""
    server.always = failure
    error = error_of(ALL[name], store)
    assert error.code == ErrorCode.BUCKET_UNREACHABLE
    assert error.retryable


# The environment ----------------------------------------------------------------------------------

GOOD = {
    "BUCKET_NAME": "b",
    "AWS_ENDPOINT_URL_S3": "https://s3.example.org",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
#: Variables that other programs set, or that the library documents, and a value that would change
#: requests if it had an effect.
OTHERS = {
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT": "http://127.0.0.1:1",
    "AWS_BUCKET": "other",
    "AWS_BUCKET_NAME": "other",
    "AWS_REGION": "other",
    "AWS_DEFAULT_REGION": "other",
    "AWS_ACCESS_KEY_ID": "other",
    "AWS_SECRET_ACCESS_KEY": "other",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_CHECKSUM_ALGORITHM": "CRC64NVME",
    "AWS_COPY_IF_NOT_EXISTS": "multipart",
    "AWS_DISABLE_TAGGING": "true",
    "AWS_ALLOW_HTTP": "false",
    "AWS_PROXY_URL": "http://127.0.0.1:1",
    "AWS_TIMEOUT": "1ms",
    "AWS_CONNECT_TIMEOUT": "1ms",
    "AWS_USER_AGENT": "other",
    "AWS_PROFILE": "other",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
    "AWS_ROLE_SESSION_NAME": "other",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nowhere",
    "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1",
    "AWS_IMDSV1_FALLBACK": "true",
    "AWS_STS_ENDPOINT": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
}
#: A value of each refused variable that the library accepts.
VALUES = {
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_SERVER_SIDE_ENCRYPTION": "AES256",
    "AWS_REQUEST_PAYER": "requester",
}


@pytest.mark.parametrize("name", LIBRARY_VARIABLES)
def test_refused_variables(name: str) -> None:
    """A variable that would reach the library and change requests is refused, by name."""
    assert load_settings(GOOD) is not None
    with pytest.raises(SchedulerError, match=f"^{name} is set") as caught:
        load_settings(GOOD | {name: VALUES.get(name, "true")})
    assert caught.value.code == ErrorCode.INVALID_ARGUMENT
    assert name in caught.value.hint
    folder = load_settings({"SCHEDD_BUCKET_FOLDER": "/tmp/x", name: "true"})
    assert folder is not None  # a folder is none of the library's business


def requests_of(server: AnsweringServer, **options: Any) -> list[tuple[Any, ...]]:
    """The requests of every operation, without what differs with the time."""
    server.requests.clear()
    store = BucketStore(server.settings(**options))
    for request in ALL.values():
        request(store)
    found = []
    for method, path, headers in server.requests:
        headers.pop("x-amz-date")
        signed = re.sub(r"\d{8}/|Signature=\w+", "", headers.pop("authorization", "not signed"))
        found.append((method, path, signed, sorted(headers.items())))
    return found


@pytest.mark.parametrize("name", OTHERS)
def test_ignored_variables(
    server: AnsweringServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No other variable affects requests, in particular none that the library reads."""
    for variable in [*OTHERS, *LIBRARY_VARIABLES, "AWS_SESSION_TOKEN"]:
        monkeypatch.delenv(variable, raising=False)
    expected = requests_of(server)
    monkeypatch.setenv(name, OTHERS[name])
    assert requests_of(server) == expected


def test_session_token(server: AnsweringServer) -> None:
    """Temporary credentials have a token, which goes with each request."""
    settings = load_settings(GOOD | {"AWS_SESSION_TOKEN": "temporary"})
    assert settings is not None
    assert settings.s3 is not None
    assert "temporary" not in repr(settings)
    assert "secret'" not in repr(settings)
    requests_of(server, session_token=settings.s3.session_token)
    assert {headers["x-amz-security-token"] for _, _, headers in server.requests} == {"temporary"}
