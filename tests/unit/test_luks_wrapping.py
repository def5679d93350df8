"""Keys in memory, on their way to a program, and in a header: shown to nobody but the customer."""

from __future__ import annotations

import base64
import dataclasses
import os
import pickle
import resource
import traceback
from typing import Any

import luks_volumes as given
import pytest
from luks_volumes import NOW

from rocksalt.errors import Refused
from rocksalt.luks import keys, programs
from rocksalt.luks.headers import Header, Slot
from rocksalt.luks.keys import SIZE, Key, without_core_dumps
from rocksalt.luks.volumes import wrapping

SECRET = os.urandom(SIZE)
LOOK = (
    'import os, sys; key = sys.stdin.buffer.read(); new = open(sys.argv[-1], "rb").read();'
    ' around = b"".join(open("/proc/self/" + it, "rb").read() for it in ("cmdline", "environ"));'
    " print(len(key), len(new), key in around, new in around, os.ctermid() == 0)"
)
TOKEN = {
    "type": "rocksalt",
    "keyslots": ["0"],
    "volume": "data",
    "customer": "acme",
    "recipients": ["f"],
    "slot": "d",
    "wrapped": "AAAA",
    "created": "2026-11-22T12:00:00Z",
}


def header(*tokens: dict[str, Any]) -> Header:
    slot = Slot("luks2", 512, "aes", 512, "argon2id", digest="d")
    return Header("/dev/x", "/dev/x", 2, "u", slots={0: slot}, tokens=dict(enumerate(tokens)))


def shown(text: str) -> bool:
    """Whether the secret is in it, in whatever form."""
    forms = (SECRET.hex(), base64.b64encode(SECRET).decode(), repr(SECRET)[2:-1])
    return any(form in text for form in (*forms, repr(list(SECRET))))


def test_a_key_is_not_shown() -> None:
    key = Key(SECRET)
    assert not shown(f"{key} {key!r} {[key]} {vars(Key)}")
    with pytest.raises(TypeError, match="a key is not written anywhere"):
        pickle.dumps(key)
    assert not hasattr(key, "__dict__")


def test_a_traceback_with_all_variables_does_not_show_it() -> None:
    key = Key(SECRET)
    try:
        programs.must("it failed", programs.run("sh", "-c", "cat >/dev/null; exit 3", given=key))
    except Refused as error:
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(trace.format())
    assert "given = Key(not shown)" in text or "Key(not shown)" in text
    assert not shown(text)


def test_a_key_that_is_wiped_is_gone() -> None:
    with Key(SECRET) as key:
        view = key.secret
        assert bytes(view) == SECRET
    assert bytes(view) == bytes(SIZE)


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_only_64_bytes_are_a_key(size: int) -> None:
    with pytest.raises(ValueError, match=f"^has {size} bytes; a volume's key has 64$"):
        Key(bytes(size))


def test_keys_are_random_and_compare() -> None:
    assert Key.random() != Key.random()
    assert Key(SECRET) == Key(bytearray(SECRET))
    assert Key(SECRET) != SECRET


def test_programs_get_keys_through_pipes_alone() -> None:
    ran = programs.run("python3", "-c", LOOK, given=Key(SECRET), new=Key.random())
    assert ran.out.split()[:4] == ["64", "64", "False", "False"]


def test_pipes_are_closed_whatever_happens() -> None:
    before = os.listdir("/proc/self/fd")
    programs.run("false", given=Key(SECRET), new=Key(SECRET))
    assert programs.run("/no/such/program", given=Key(SECRET)).status == 127
    assert programs.run("sleep", "9", given=Key(SECRET), timeout=0.05).status == 124
    assert os.listdir("/proc/self/fd") == before


def test_what_no_pipe_holds_is_refused() -> None:
    with pytest.raises(Refused, match="more than a pipe holds"):
        programs.run("cat", given=bytes(1 << 20))


def test_a_program_that_fails_is_quoted_in_one_line() -> None:
    ran = programs.run("sh", "-c", "echo one; echo two >&2; echo three >&2; exit 5")
    with pytest.raises(Refused, match="it failed: two three"):
        programs.must("it failed", ran)


def test_nothing_is_dumped_meanwhile() -> None:
    """A limit of 1 is what keeps the kernel from piping a dump to a program, too."""
    before = resource.getrlimit(resource.RLIMIT_CORE), keys._prctl(keys._GET_DUMPABLE)
    with without_core_dumps():
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 1
        assert keys._prctl(keys._GET_DUMPABLE) == 0
        limit = programs.run("grep", "Max core file size", "/proc/self/limits").out.split()[4]
        assert limit == "1"
    after = resource.getrlimit(resource.RLIMIT_CORE), keys._prctl(keys._GET_DUMPABLE)
    assert after == before


def test_nothing_is_dumped_where_the_hard_limit_is_none() -> None:
    """As in a unit with ``LimitCORE=0``: who may raises it to 1, others keep 0."""
    status = programs.run("grep", "CapEff", "/proc/self/status").out.split()[1]
    may = bool(int(status, 16) & 1 << 24)  # CAP_SYS_RESOURCE
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        keys.dump_nothing()
        soft, dumpable = resource.getrlimit(resource.RLIMIT_CORE)[0], keys._prctl(3)
        os._exit(0 if (soft, dumpable) == (int(may), 0) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_only_recipients_read_what_is_wrapped() -> None:
    customer, identity = given.customer()
    more, other = given.customer()
    both = dataclasses.replace(customer, recipients=customer.recipients + more.recipients)
    wrapped = wrapping.wrap(Key(SECRET), both)
    assert given.unwrapped(wrapped, identity) == given.unwrapped(wrapped, other) == SECRET
    assert wrapping.readers(wrapped) == 2
    assert wrapping.readers(wrapped[:50]) is None
    assert SECRET not in wrapped
    stranger = given.customer()[1]
    with pytest.raises(Exception, match="none of the identities can read"):
        given.unwrapped(wrapped, stranger)


def test_a_token_says_whose_it_is() -> None:
    customer, _ = given.customer()
    token = wrapping.content(given.volume(customer), 3, "digest", b"wrapped", NOW)
    assert token == {
        "type": "rocksalt",
        "keyslots": ["3"],
        "volume": "data",
        "customer": "acme",
        "recipients": customer.fingerprints,
        "slot": "digest",
        "wrapped": "d3JhcHBlZA==",
        "created": "2026-11-22T12:00:00Z",
    }
    (read,) = wrapping.tokens(header(token))
    assert (read.slots, read.wrapped, read.digest) == ((3,), b"wrapped", "digest")


@pytest.mark.parametrize("name", [it for it in TOKEN if it != "type"])
@pytest.mark.parametrize("value", [None, 7, "?", ["x"]])
def test_what_only_calls_itself_a_token_of_ours_is_none(name: str, value: Any) -> None:
    assert len(wrapping.tokens(header(TOKEN))) == 1
    without = {key: it for key, it in TOKEN.items() if key != name}
    assert wrapping.tokens(header(without)) == []
    wrapping.tokens(header({**TOKEN, name: value}))


@pytest.mark.parametrize(
    "change",
    [{"keyslots": None}, {"keyslots": ["x"]}, {"wrapped": "?"}, {"wrapped": 7}, {"recipients": 7}],
)
def test_a_token_that_is_malformed_is_none(change: dict[str, Any]) -> None:
    assert wrapping.tokens(header({**TOKEN, **change})) == []


def test_a_token_moves_with_its_key() -> None:
    found = header(TOKEN | {"slot": "before"})
    (token,) = wrapping.tokens(found)
    assert wrapping.moved(found, token, 0) == TOKEN
