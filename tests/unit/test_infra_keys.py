"""tests/infra: which keys open which accounts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from infra import keys, ways
from infra import test_accounts as accounts
from infra.asking import Answer

BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIMine"
KEY = f"ssh-ed25519 {BLOB}"
CLIENT = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIClient"
FORCED = f'restrict,command="/usr/local/sbin/receive a" {CLIENT}'
SETTINGS: dict[str, Any] = {
    "administrators": {"ann": {"keys": [KEY]}},
    "administrators_group": "sudo",
    "users": {"batch": {"keys": [KEY]}, "free": {}},
    "default_accounts": ["debian"],
}
SUDO = "User ann may run the following commands on h:\n    (ALL : ALL) NOPASSWD: ALL"


def site(**accounts: Any) -> Any:
    own = {
        "accounts": {**SETTINGS, **accounts},
        "backup": {"receiver": {"clients": {"m": {"key": CLIENT}}}},
        "logstash": {"witness": {}},
        "luks": {"user": "rocksalt-volumes", "customers": {}},
    }
    families = {name: SimpleNamespace(settings=it) for name, it in own.items()}
    return SimpleNamespace(baseline=SimpleNamespace(families=families))


def host(*lines: tuple[str, str], **more: str) -> dict[str, Answer]:
    said = {
        "authorized": "".join(f"{who}\t/home/{who}/keys\t{line}\n" for who, line in lines),
        "people": "== ann\nann:x:1000:1000::/home/ann:/bin/bash\n",
        "groups": "== ann\nsudo\n",
        "sudo": f"== ann\n{SUDO}\n",
        "state": "== ann\nann L\nAccount expires : never\n",
        "read": "== ann\n.ssh/authorized_keys /home/%u/keys\n",
        "modes": "ann\t755\tann\t/home/ann\nann\t755\troot\t/etc/ssh/keys\n",
        "group": "sudo:x:27:ann\n",
        **more,
    }
    return {name: Answer(text, 0) for name, text in said.items()}


@pytest.mark.parametrize(
    ("who", "line"),
    [
        ("debian", KEY),
        ("ann", f"{KEY} ann@home"),
        ("ann", f'from="10.0.0.1" {KEY}'),
        ("free", CLIENT),
        ("rocksalt-vault", FORCED),
    ],
)
def test_a_key_that_may_be_there(who: str, line: str) -> None:
    accounts.test_only_declared_keys(host((who, line)), site(), SETTINGS, {})


@pytest.mark.parametrize(
    ("who", "line"),
    [
        ("root", CLIENT),
        ("root", FORCED),
        ("root", KEY),
        ("rocksalt-vault", CLIENT),
        ("rocksalt-vault", f'restrict,command="x" {KEY}'),
        ("ann", CLIENT),
        ("ann", f"cert-authority {KEY}"),
        ("batch", CLIENT),
    ],
)
def test_a_key_that_nobody_declared(who: str, line: str) -> None:
    with pytest.raises(AssertionError, match=who):
        accounts.test_only_declared_keys(host((who, line)), site(), SETTINGS, {})


def test_an_account_of_the_image_that_may_be_open_has_no_keys_of_strangers() -> None:
    excused = {"ACC-040": ("waived", "a reason")}
    with pytest.raises(AssertionError, match="debian"):
        accounts.test_only_declared_keys(host(("debian", KEY)), site(), SETTINGS, excused)


def judge(seen: dict[str, Answer], declared: str, *ids: str) -> None:
    own = {**SETTINGS, "administrators": {"ann": {"keys": [declared]}}}
    wanted = site(administrators=own["administrators"])
    accounts.test_administrators_can_log_in(seen, wanted, own, set(ids))


def test_a_key_opens_what_was_declared() -> None:
    both = ("ACC-010", "ACC-011")
    limited = f'from="10.0.0.1,10.0.0.2",no-pty {KEY}'
    judge(host(("ann", f"{KEY} another comment")), KEY, *both)
    judge(host(("ann", f'no-pty,from="10.0.0.1,10.0.0.2" {KEY}')), limited, *both)
    for there, declared in ((f'command="/bin/false" {KEY}', KEY), (KEY, limited)):
        with pytest.raises(AssertionError, match="none of the declared keys"):
            judge(host(("ann", there)), declared, *both)


def test_of_administrators_only_what_is_not_waived_is_judged() -> None:
    judge(host(), KEY, "ACC-010")
    nobody = host(("ann", KEY), people="== ann\n", group="sudo:x:27:\n")
    judge(nobody, KEY, "ACC-011")
    judge(host(("ann", KEY), sudo="== ann\n"), KEY, "ACC-010", "ACC-011")
    for seen, control in ((host(), "ACC-011"), (nobody, "ACC-010")):
        with pytest.raises(AssertionError):
            judge(seen, KEY, control)
    with pytest.raises(AssertionError, match="others can write"):
        judge(host(("ann", KEY), modes="ann\t777\troot\t/etc/ssh/keys\n"), KEY, "ACC-011")


def test_ways_in_are_named_by_control() -> None:
    seen = host(("ann", KEY), sudo="== ann\n")
    assert ways.problems(seen, site()) == {"ann": {"does not become root by sudo": "ACC-012"}}
    found = ways.problems(host(("ann", KEY)), site(), {"allowgroups": ["ssh"]})
    assert list(found["ann"].values()) == ["SSHD-108"]


def test_a_key_where_sshd_does_not_look_opens_nothing() -> None:
    for read in ("== ann\n.ssh/authorized_keys\n", "== ann\n"):
        found = ways.problems(host(("ann", KEY), read=read), site())
        assert found == {"ann": {"has none of the declared keys, as they are declared": "ACC-011"}}


def test_places_of_keys() -> None:
    entry = "ann:x:1000:1000::/home/ann:/bin/bash"
    assert keys.places(".ssh/a %h/b /k/%u-%U /100%%", entry) == [
        *("/home/ann/.ssh/a", "/home/ann/b", "/k/ann-1000", "/100%"),
    ]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with programs that answer as those of a host whose keys lie in two places."""
    homes, central = tmp_path / "home", tmp_path / "keys of ann"
    central.mkdir()
    (central / "ann").write_text(f"# {CLIENT}\n\n{KEY} one\n")
    (homes / "root/.ssh").mkdir(parents=True)
    (homes / "root/.ssh/authorized_keys2").write_text(f"{CLIENT} two\n")
    (tmp_path / "central").symlink_to(central)
    people = f"root:x:0:0::{homes}/root:/bin/sh\nann:x:1000:1000::{homes}/ann:/bin/sh\n"
    programs = {
        "sshd": f"echo 'port 22'; echo 'authorizedkeysfile {tmp_path}/central/%u none'",
        "getent": f"printf '%s' '{people}' | grep \"^${{2:-}}\"",
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def answer(machine: Path, command: str) -> Answer:
    env = {**os.environ, "PATH": f"{machine}/bin:{os.environ['PATH']}"}
    words = ["sh", "-c", f"( {command}\n) 2>&1"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    return Answer(done.stdout, done.returncode)


def test_keys_are_found_wherever_sshd_looks(machine: Path) -> None:
    found = answer(machine, keys.SHOW)
    assert [(who, line) for who, line, _ in keys.shown(found)] == [
        ("ann", f"{KEY} one"),
        ("root", f"{CLIENT} two"),
    ]
    (machine / "central/ann").chmod(0o666)
    rows = answer(machine, keys.MODES.replace("PEOPLE", "root")).lines
    modes = {(who, mode, name) for who, mode, _, name in (row.split("\t") for row in rows)}
    assert ("ann", "666", f"{machine}/central/ann") in modes
    assert {"ann", "root"} == {who for who, *_ in modes}
    assert any(name == f"{machine}/home/root" for _, _, name in modes)
