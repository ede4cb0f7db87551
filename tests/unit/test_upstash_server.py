"""Is a Redis URL understood, and does no failure to connect show it? What a server answers is tried on a real one (tests/sandbox)."""

import socket
import threading
from collections.abc import Iterator

import pytest

from components.http import ApiError
from components.upstash.server import accepts, assert_reads_and_writes, other_connections, password_of


def test_the_password_of_a_url() -> None:
    assert password_of("rediss://u%3A:p%2F%40@h:1") == "p/@"
    assert password_of("rediss://h:1") == ""


@pytest.fixture
def answering() -> Iterator[list[bytes]]:
    """A server that answers each line of a connection with what a test says, at 127.0.0.1; the first item becomes its port."""
    answers: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answers.append(str(listener.getsockname()[1]).encode())

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                for answer in answers[1:]:
                    if not connection.recv(4096):
                        return
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield answers
    thread.join(5)


def url(answers: list[bytes]) -> str:
    return f"redis://user-1:pass-word-1@127.0.0.1:{answers[0].decode()}"


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([b"+OK\r\n", b"+PONG\r\n"], True),
        ([b"-WRONGPASS invalid username-password pair\r\n"], False),
        ([b"-NOPERM this user may not authenticate\r\n"], False),
        ([b"-ERR invalid password\r\n"], False),
        ([b"+OK\r\n", b"-NOPERM this user has no permissions to run the 'ping' command\r\n"], True),
        ([b"+OK\r\n", b"-NOAUTH Authentication required.\r\n"], False),
    ],
)
def test_what_the_server_says_of_a_password(answering: list[bytes], answers: list[bytes], verdict: bool) -> None:  # noqa: FBT001 - a column
    answering.extend(answers)
    assert accepts(url(answering)) is verdict


@pytest.mark.parametrize(
    "answers",
    [
        [],
        [b""],
        [b"-ERR max number of clients reached\r\n"],
        [b"-LOADING Redis is loading the dataset in memory\r\n"],
        [b"-ERR pass-word-1 is not known\r\n"],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"+OK\r\n", b"-ERR something else\r\n"],
    ],
    ids=str,
)
def test_what_proves_neither_is_an_error_without_the_url(answering: list[bytes], answers: list[bytes]) -> None:
    answering.extend(answers)
    with pytest.raises(ApiError) as failed:
        accepts(url(answering))
    assert "pass-word-1" not in str(failed.value)
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


@pytest.mark.parametrize(
    "wrong", ["redis://user:pass-word-1@127.0.0.1:1", "http://user:pass-word-1@h", "redis://user:pass-word-1@h:port"]
)
def test_no_failure_shows_the_url(wrong: str) -> None:
    def lists() -> None:
        with other_connections(wrong) as count:
            count()

    for ask in (lambda: accepts(wrong), lambda: assert_reads_and_writes(wrong, "k", "v"), lists):
        with pytest.raises(ApiError) as failed:
            ask()
        assert "pass-word-1" not in str(failed.value)
        assert failed.value.status is None


def test_a_list_that_does_not_say_whose_connections_they_are_proves_nothing(answering: list[bytes]) -> None:
    line = b"id=4 addr=127.0.0.1:1 name= age=1\n"
    answering.extend([b"+OK\r\n", b":4\r\n", b"$%d\r\n%b\r\n" % (len(line), line)])
    with other_connections(url(answering)) as count, pytest.raises(ApiError, match="does not say whose") as failed:
        count()
    assert failed.value.status == 400
