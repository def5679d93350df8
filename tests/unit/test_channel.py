"""The channel to virtual machines: messages, and what a call does when things go wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rocksalt_lab import channel

Answer = Callable[[socket.socket, dict], None]


def test_what_is_no_message_of_ours_is_skipped():
    lines = channel.Lines()
    said = b'half a message {"ca' + channel.encode("1", out=b"\0\n") + b"[1]\n{}\n" + b'{"call"'
    assert list(lines.feed(said)) == [{"call": "1", "out": "AAo="}]
    assert list(lines.feed(b': "2", "code": 3}\n')) == [{"call": "2", "code": 3}]


@pytest.fixture
def call(tmp_path: Path) -> Callable[[Answer], subprocess.CompletedProcess[bytes]]:
    """Make a call to a machine that answers in a certain way."""
    (tmp_path / "port0.lock").touch()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "port0"))
    server.listen()

    def machine(answer: Answer) -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as requests:
            answer(connection, next(json.loads(line) for line in requests if line.strip()))

    def run(answer: Answer) -> subprocess.CompletedProcess[bytes]:
        thread = threading.Thread(target=machine, args=(answer,))
        thread.start()
        words = [sys.executable, channel.__file__, "call", tmp_path, "0.3", '{"argv": ["it"]}']
        done = subprocess.run(words, capture_output=True, input=b"")
        thread.join()
        return done

    return run


def test_output_and_exit_code_are_the_commands(call):
    def answer(connection, request):
        assert request["argv"] == ["it"]
        for message in (
            channel.encode("another", out=b"of an earlier call", code=9),
            channel.encode(request["call"], started=1),
            channel.encode(request["call"], out=b"out\0", err=b"err\n"),
            channel.encode(request["call"], code=7),
        ):
            connection.sendall(message)

    done = call(answer)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\0", b"err\n")


def test_a_machine_that_goes_down_is_no_success(call):
    done = call(lambda connection, request: connection.sendall(b'\n{"call": '))
    assert (done.returncode, done.stderr) == (255, b"lab: the machine went down\n")


def test_a_machine_that_does_not_answer_is_given_up(call):
    def answer(connection, request):
        while connection.recv(1000):
            pass

    done = call(answer)
    assert (done.returncode, done.stderr) == (255, b"lab: the machine does not answer\n")


def test_a_machine_that_is_down_is_said_to_be(tmp_path):
    (tmp_path / "port0.lock").touch()
    words = [sys.executable, channel.__file__, "call", tmp_path, "9", "{}"]
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (255, b"lab: the machine is not running\n")
