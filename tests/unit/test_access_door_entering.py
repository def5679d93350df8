"""Log-ins at the door: limits, sessions, passwords and what the master's auth module believes."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rocksalt.access import DOOR, door
from rocksalt.access.door import conf, passwords, sealing
from rocksalt.access.door.limits import Attempts, Busy, Window, network
from rocksalt.access.door.sessions import Session, Sessions

# scrypt with these numbers takes no time; with ours, a tenth of a second.
QUICK = "scrypt:2:1:1:c2FsdHNhbHRzYWx0c2FsdA==:bC+n8JbDKdrfE73ue3gmUXBALuMeLdwlA8FnQAQZOTY="


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Salt, where it is loaded, keeps what is logged for a log that is never set up here."""
    monkeypatch.setattr(logging.getLogger("rocksalt.api"), "propagate", False)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# Limits


def test_a_window_slides(clock: Clock) -> None:
    window = Window(2, 10, clock)
    window.add("a")
    clock.now += 4
    assert window.wait("a") == 0
    window.add("a")
    assert (window.count("a"), window.wait("a"), window.wait("b")) == (2, 6, 0)
    clock.now += 6
    assert (window.count("a"), window.wait("a")) == (1, 0)
    clock.now += 4
    assert window.count("a") == 0


def test_a_window_remembers_so_many_keys_and_no_more(clock: Clock) -> None:
    window = Window(1, 10, clock, keys=3)
    for key in "abcd":
        window.add(key)
    assert [window.count(key) for key in "abcd"] == [0, 1, 1, 1]


def fail(attempts: Attempts, user: str, source: str) -> None:
    assert attempts.begin(user, source) == 0
    attempts.end(user, source, failed=True)


def test_failures_count_by_user_and_by_address(clock: Clock) -> None:
    attempts = Attempts(2, 60, clock)
    fail(attempts, "alice", "10.0.0.1")
    clock.now += 5
    fail(attempts, "bob", "10.0.0.1")
    assert attempts.begin("carol", "10.0.0.1") == attempts.begin("alice", "10.0.0.1") == 55
    for number in range(39):
        fail(attempts, "alice", f"10.0.1.{number}")
    assert attempts.begin("Alice", "10.0.0.3") == 55
    assert attempts.begin("dave", "10.0.0.3") == 0
    clock.now += 56
    assert attempts.begin("alice", "10.0.0.3") == 0


def test_log_ins_that_succeed_neither_count_nor_forgive(clock: Clock) -> None:
    attempts = Attempts(2, 60, clock)
    for _ in range(5):
        assert attempts.begin("alice", "10.0.0.1") == 0
        attempts.end("alice", "10.0.0.1", failed=False)
    fail(attempts, "bob", "10.0.0.1")
    assert attempts.begin("alice", "10.0.0.1") == 0
    attempts.end("alice", "10.0.0.1", failed=False)
    fail(attempts, "bob", "10.0.0.1")
    assert attempts.begin("bob", "10.0.0.1") > 0


def test_as_many_at_once_as_may_fail(clock: Clock) -> None:
    attempts = Attempts(2, 60, clock)
    assert [attempts.begin("alice", "10.0.0.1") for _ in range(2)] == [0, 0]
    found: list[float] = []
    third = threading.Thread(target=lambda: found.append(attempts.begin("alice", "10.0.0.1")))
    third.start()
    third.join(0.05)
    assert third.is_alive() and not found
    attempts.end("alice", "10.0.0.1", failed=False)
    third.join(5)
    assert found == [0]
    attempts.end("alice", "10.0.0.1", failed=True)
    attempts.end("alice", "10.0.0.1", failed=True)
    assert attempts.begin("alice", "10.0.0.1") == 60


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(source: str, expected: str) -> None:
    assert network(source) == expected


def test_so_many_of_one_user_at_a_time_and_of_others_as_well() -> None:
    busy = Busy(2)
    with busy.one("alice") as first, busy.one("alice") as second, busy.one("bob") as other:
        assert first and second and other
        for _ in range(2):
            with busy.one("alice") as third:
                assert not third
    with contextlib.suppress(KeyError), busy.one("alice"):
        raise KeyError
    with busy.one("alice") as first, busy.one("alice") as second:
        assert first and second
    assert not busy._under_way


# Sessions


def test_a_session_has_its_time(clock: Clock) -> None:
    sessions = Sessions(clock)
    one = Session("alice", "salt's", clock.now + 60)
    new, gone = sessions.open(one)
    assert (len(new), gone, sessions.find(new)) == (64, [], one)
    clock.now += 60
    assert sessions.find(new) is None
    sessions.close(new)


@pytest.mark.parametrize(
    "given", ["", "x", "0" * 64, "A" * 64, "0" * 63, "../" * 9, "0" * 64 + "\n"]
)
def test_no_other_id_is_one(clock: Clock, given: str) -> None:
    sessions = Sessions(clock)
    sessions.open(Session("alice", "salt's", clock.now + 60))
    assert sessions.find(given) is None


def test_a_closed_session_is_over_and_others_are_not(clock: Clock) -> None:
    sessions = Sessions(clock)
    ids = [sessions.open(Session("alice", str(n), clock.now + 60))[0] for n in range(2)]
    sessions.close(ids[0])
    assert sessions.find(ids[0]) is None
    sessions.close(ids[0])
    assert sessions.find(ids[1]) is not None


def test_the_oldest_of_a_user_give_way(clock: Clock) -> None:
    sessions = Sessions(clock, most=2)
    other, _ = sessions.open(Session("bob", "b", clock.now + 60))
    made = [sessions.open(Session("alice", str(n), clock.now + 60)) for n in range(4)]
    assert [[it.token for it in gone] for _, gone in made] == [[], [], ["0"], ["1"]]
    assert [sessions.find(it) is not None for it, _ in made] == [False, False, True, True]
    assert sessions.find(other) is not None


# Passwords


def test_a_new_password_has_a_strong_hash_of_its_own() -> None:
    password, hashed = passwords.make()
    assert len(password) == 24 and passwords.is_strong(hashed)
    assert hashed.startswith("scrypt:32768:8:1:")
    assert passwords.is_password(hashed, password)
    assert not passwords.is_password(hashed, password + "x")
    given, again = passwords.make("correct horse")
    assert given == "correct horse" and again.split(":")[4] != hashed.split(":")[4]


@pytest.mark.parametrize(
    "text",
    [
        "", "alice", "$6$salt$hash", "scrypt:2:1:1:c2FsdA==", QUICK + ":x", "md5" + QUICK[6:],
        QUICK.replace(":2:", ":3:"), QUICK.replace(":2:", ":0:"), QUICK.replace(":2:", ":-2:"),
        QUICK.replace(":2:", ":1073741824:"), QUICK.replace(":1:1:", ":1:17:"),
        QUICK.replace(":1:1:", ":0:1:"), QUICK.replace("c2Fs", "????"), "scrypt:2:1:1::AAAA",
        "scrypt:2:1:1:c2FsdA==:AAAA",
    ],
)  # fmt: skip
def test_what_is_no_hash_is_nobodys(text: str) -> None:
    assert not passwords.is_strong(text)
    assert not passwords.is_password(text, "x")


def test_a_hash_with_less_work_or_salt_is_not_strong() -> None:
    hashed = "A" * 43 + "="
    salt = "A" * 22 + "=="
    assert passwords.is_strong(f"scrypt:32768:8:1:{salt}:{hashed}")
    assert passwords.is_strong(f"scrypt:65536:8:1:{salt}:{hashed}")
    for weak in ("16384:8:1", "32768:4:1"):
        assert not passwords.is_strong(f"scrypt:{weak}:{salt}:{hashed}")
    assert not passwords.is_strong(f"scrypt:32768:8:1:AAAA:{hashed}")
    assert not passwords.is_strong(QUICK)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Hashes that take no time, and how many were made."""
    made: list[int] = []
    of = passwords._Hash.of
    monkeypatch.setattr(passwords, "N", 2)
    monkeypatch.setattr(passwords, "_NOBODY", passwords._parsed(QUICK))
    monkeypatch.setattr(passwords._Hash, "of", lambda it, word: made.append(1) or of(it, word))
    return made


def test_who_may_enter(quick: list[int]) -> None:
    (word, hashed), (other, _) = passwords.make(), passwords.make()
    users = f"# people\nalice:{hashed}\nbob:{hashed}\nbob:{hashed}\ncarol:x\n:{hashed}\ndave\n"
    quick.clear()
    answers = {
        (user, may): passwords.may_enter(users, user, may)
        for user in ("alice", "Alice", "bob", "carol", "dave", "", "# people", "eve")
        for may in (word, other, "")
    }
    assert [key for key, may in answers.items() if may] == [("alice", word)]
    # Whoever it is, and also for nobody, one hash is made.
    assert len(quick) == len(answers)


def test_nobody_takes_the_time_of_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where hashes differ in what they cost."""
    made: list[int] = []
    monkeypatch.setattr(passwords._Hash, "of", lambda it, word: made.append(it.n) or b"")
    salt, hashed = "c2FsdHNhbHRzYWx0c2FsdA==", "A" * 43 + "="
    users = "".join(
        f"{name}:scrypt:{n}:8:1:{salt}:{hashed}\n" for name, n in [("alice", 2**17), ("bob", 2**15)]
    )
    names = [f"nobody{number}" for number in range(20)]
    for name in ["alice", "bob", *names, *names]:
        assert not passwords.may_enter(users, name, "x")
    assert made[:2] == [2**17, 2**15] and {*made[2:]} == {2**17, 2**15}
    assert made[2:22] == made[22:], "a name has always the same"


def test_who_is_known_takes_as_long_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """All hashes are read to find the one of nobody: also for those who need none."""
    parsed, read = passwords._parsed, list[str]()
    users = "".join(f"user{number}:{QUICK}\n" for number in range(9))
    monkeypatch.setattr(passwords, "_parsed", lambda text: read.append(text) or parsed(text))
    counts = []
    for name in ("user4", "nobody"):
        read.clear()
        assert not passwords.may_enter(users, name, "x")
        counts.append(len(read))
    assert counts == [10, 10]


def test_the_hash_of_nobody_costs_what_ours_do() -> None:
    assert not passwords.may_enter("", "alice", "x")
    assert passwords._NOBODY[:3] == (passwords.N, passwords.R, passwords.P)


# Seals


def test_a_seal_is_for_this_user_and_password_alone() -> None:
    secret = b"s" * 32
    sealed = sealing.seal(secret, "alice", "pass:word")
    assert sealing.unseal(secret, "alice", sealed) == "pass:word"
    for secret_, user, word in [
        (b"t" * 32, "alice", sealed), (secret, "bob", sealed), (secret, "alice", sealed + "x"),
        (secret, "alice", "pass:word"), (secret, "alice", ""), (secret, "alice", "é" * 70),
    ]:  # fmt: skip
        assert sealing.unseal(secret_, user, word) is None
    assert sealing.unseal(b"", "alice", sealing.seal(b"", "alice", "x")) is None


def test_the_secret_is_new_each_time_and_private(tmp_path: Path) -> None:
    path = tmp_path / "seal"
    path.symlink_to("/nonexistent/elsewhere")
    first, second = sealing.renew(str(path)), sealing.renew(str(path))
    assert first != second == path.read_bytes() and len(second) == 32
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert [it.name for it in tmp_path.iterdir()] == ["seal"]


# As installed


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for path, text in door.files().items():
        target = tmp_path / path.removeprefix(f"{DOOR}/")
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [it for it in sys.modules if it.split(".")[0] == "rocksalt_door"]:
        del sys.modules[name]


def load(path: Path, opts: dict[str, Any]) -> Any:
    """A module as Salt's loader makes it: the options are there before its functions run."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__opts__"] = opts
    spec.loader.exec_module(module)
    return module


def test_what_is_installed_needs_nothing_of_the_library(installed: Path) -> None:
    files = door.files()
    assert list(files) == sorted(files)
    assert f"{DOOR}/netapi/rocksalt_api.py" in files and f"{DOOR}/auth/rocksalt_file.py" in files
    assert f"{DOOR}/rocksalt_door/filter.py" in files
    assert len(files) == len(list(installed.rglob("*.py")))
    for path, text in files.items():
        compile(text, path, "exec")
        assert "import rocksalt" not in text.replace("import rocksalt_door", "")
        assert "from rocksalt." not in text and "from rocksalt import" not in text
        assert text.startswith("# Written by rocksalt")


def test_the_auth_module_believes_the_door_alone(installed: Path, quick: list[int]) -> None:
    users = installed / "users"
    secret = sealing.renew(str(installed / "rocksalt-api.seal"))
    api = {"host": "127.0.0.1", "ssl_crt": "/c", "ssl_key": "/k", "users_file": str(users)}
    module = load(
        installed / "auth" / "rocksalt_file.py",
        {"rocksalt_api": api, "cachedir": str(installed)},
    )
    word, hashed = passwords.make()
    users.write_text(f"alice:{hashed}\n")
    assert module.__virtual__() == "rocksalt_file"
    assert module.auth("alice", sealing.seal(secret, "alice", word)) is True
    assert module.auth("alice", sealing.seal(secret, "alice", "wrong")) is False
    assert module.auth("alice", word) is False
    assert module.auth("bob", sealing.seal(secret, "bob", word)) is False
    assert module.auth(["alice"], sealing.seal(secret, "alice", word)) is False
    users.unlink()
    assert module.auth("alice", sealing.seal(secret, "alice", word)) is False


def test_ldap_is_asked_for_what_came_through_the_door(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = pytest.importorskip("salt.auth.ldap")
    asked: list[tuple[str, str]] = []

    def answer(username: str, password: str) -> Any:
        assert directory.__opts__["auth.ldap.server"] == "ldap1"
        asked.append((username, password))
        return object() if password == "right" else False

    monkeypatch.setattr(directory, "auth", answer)
    monkeypatch.setattr(directory, "groups", lambda user, **more: [more["password"]])
    monkeypatch.setattr(directory, "__opts__", {}, raising=False)
    secret = sealing.renew(str(installed / "rocksalt-api.seal"))
    opts = {"rocksalt_api": {}, "cachedir": str(installed), "auth.ldap.server": "ldap1"}
    module = load(installed / "auth" / "rocksalt_ldap.py", opts)
    sealed = {word: sealing.seal(secret, "alice", word) for word in ("right", "wrong", "")}
    assert module.__virtual__() == "rocksalt_ldap"
    assert module.auth("alice", sealed["right"]) is True
    assert module.auth("alice", sealed["wrong"]) is False
    assert asked == [("alice", "right"), ("alice", "wrong")]
    # An empty password binds without a name, which directories take for success.
    for user, word in (("alice", "right"), ("bob", sealed["right"]), ("alice", sealed[""])):
        assert module.auth(user, word) is False and module.groups(user, password=word) == []
    assert len(asked) == 2
    assert module.groups("alice", password=sealed["right"], eauth="rocksalt_ldap") == ["right"]
    assert module.process_acl([{"web1": ["test.ping"]}], opts) == [{"web1": ["test.ping"]}]


def test_without_its_section_no_module_loads(installed: Path) -> None:
    assert load(installed / "auth" / "rocksalt_file.py", {}).__virtual__()[0] is False
    pytest.importorskip("salt.auth.ldap")
    assert load(installed / "auth" / "rocksalt_ldap.py", {}).__virtual__()[0] is False


# Options

GOOD = {"host": "10.0.0.1", "ssl_crt": "/c", "ssl_key": "/k"}


def test_options_have_defaults() -> None:
    found = conf.read({"rocksalt_api": {**GOOD, "port": 8443}})
    assert (found.host, found.port, found.max_body, found.eauth) == (
        "10.0.0.1", 8443, 65536, "rocksalt_file",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("section", "why"),
    [
        (None, "rocksalt_api: has to be a mapping"),
        ({}, "rocksalt_api:host: is missing"),
        ({**GOOD, "ssl_key": ""}, "rocksalt_api:ssl_key: is missing"),
        ({**GOOD, "prot": 1}, "rocksalt_api:prot: no such option"),
        ({**GOOD, "port": "8000"}, "rocksalt_api:port: '8000' is no int"),
        ({**GOOD, "port": True}, "rocksalt_api:port: True is no int"),
        ({**GOOD, "thread_pool": 1}, "rocksalt_api:thread_pool: 1 is less than 2"),
    ],
)
def test_wrong_options_are_named(section: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("(", "\\(")):
        conf.read({"rocksalt_api": section})


def test_clients_are_those_enabled_that_may_pass() -> None:
    assert conf.clients({"netapi_enable_clients": ["local", "wheel", "ssh"]}) == {"local"}
    assert conf.clients({}) == frozenset()
