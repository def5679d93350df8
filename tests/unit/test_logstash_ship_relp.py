"""rocksalt.logstash.shipping.relp: frames, in whatever pieces they come."""

from __future__ import annotations

import pytest

from rocksalt.logstash.shipping import notify, relp
from rocksalt.logstash.shipping.relp import Frame, Garbled, Parser

ANSWERS = (
    b"1 rsp 29 200 OK\nrelp_version=0\nsyslog=\n2 rsp 6 200 OK\n0 serverclose 0\n3 rsp 7 500 bad\n"
)
FRAMES = [
    Frame(1, "rsp", b"200 OK\nrelp_version=0\nsyslog="),
    Frame(2, "rsp", b"200 OK"),
    Frame(0, "serverclose", b""),
    Frame(3, "rsp", b"500 bad"),
]


@pytest.mark.parametrize("size", [1, 2, 7, 16, 1000])
def test_frames_are_found_in_pieces_of_any_size(size):
    parser, found = Parser(), []
    for start in range(0, len(ANSWERS), size):
        found += parser.feed(ANSWERS[start : start + size])
    assert found == FRAMES
    assert [it.accepted for it in found] == [True, True, False, False]


@pytest.mark.parametrize(
    ("number", "command", "data", "expected"),
    [
        (2, "syslog", b"a\nb", b"2 syslog 3 a\nb\n"),
        (3, "close", b"", b"3 close 0\n"),
        (999_999_999, "syslog", "ä".encode(), b"999999999 syslog 2 \xc3\xa4\n"),
    ],
)
def test_a_frame_is_written(number, command, data, expected):
    assert relp.encode(number, command, data) == expected
    assert Parser().feed(expected) == [Frame(number, command, data)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"1 rsp 6 200 OKx",
        b"1 rsp 0 200",
        b"1 rsp 6\n200 OK",
        b"1 rsp 99999999 2",
        b"\x15\x03\x01\x00\x02\x02\n",
        b"1" * 60,
    ],
)
def test_garbage_is_an_error(garbage):
    with pytest.raises(Garbled, match="no RELP"):
        Parser().feed(garbage)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"500 no space", "500 no space"),
        ("größe".encode(), "größe"),
        (b"500\nsshd: Accepted\r\x1b[2J\0", "500\\nsshd: Accepted\\r\\x1b[2J\\x00"),
        ("a\u202eb\u2028\xff".encode() + b"\xff", "a\\u202eb\\u2028ÿ\\xff"),
    ],
)
def test_what_others_say_is_one_line(data, expected):
    assert notify.plain(data) == expected


def test_numbers_start_again():
    assert [relp.following(it) for it in (1, 999_999_998, 999_999_999)] == [2, 999_999_999, 1]
