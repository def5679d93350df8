"""A mistake in the pillar stops every run before anything is touched, and says what is right."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from conftest import Minion
from rocksalt.settings import merge

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILLSU+svfvtVleVVviymVZnxscO18BM7Yct5w88/ZAKf ann"
SECRET = "correct horse battery staple"
PRIVATE_KEY = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----"
NO_KEY = "is not a public key in one line of authorized_keys, such as ssh-ed25519 AAAA... ann"
NO_HASH = "*** is not a password hash of a known kind, such as mkpasswd --method=yescrypt prints"


def administrator(name: str, *keys: str, **more: Any) -> dict[str, Any]:
    """A pillar that declares one, who needs no password unless ``more`` says otherwise."""
    entry = {"keys": [*keys] or [KEY], "nopasswd": True, **more}
    return {"accounts": {"administrators": {name: entry}}}


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown family": (
        {"shd": {}},
        "hardening:shd: no such family or key; did you mean 'sshd'?",
    ),
    "an unknown key": (
        {"sshd": {"max_auth_trys": 3}},
        "hardening:sshd:max_auth_trys: no such setting; did you mean 'max_auth_tries'?",
    ),
    "a wrong type": (
        {"sshd": {"max_auth_tries": "three"}},
        "hardening:sshd:max_auth_tries: 'three' is not a whole number",
    ),
    "a port that does not exist": (
        {"sshd": {"ports": [22, 70000]}},
        "hardening:sshd:ports:1: 70000 is more than 65535",
    ),
    "an unknown algorithm": (
        {"sshd": {"ciphers": ["aes256-gcm@openssh.org"]}},
        "hardening:sshd:ciphers:0: 'aes256-gcm@openssh.org' is not known; did you mean "
        "'aes256-gcm@openssh.com'?",
    ),
    "a network with host bits": (
        {"networks": {"management": ["10.0.0.1/24"]}},
        "hardening:networks:management:0: '10.0.0.1/24' is not a network such as 10.0.0.0/8; did "
        "you mean '10.0.0.0/24'?",
    ),
    "a secret in a role": (
        {"roles": {"web": {"minions": ["*"], "settings": {"sample": {"password": "x"}}}}},
        "hardening:roles:web:settings:sample:password: a secret belongs into its minion's own "
        "pillar",
    ),
    "a malformed key": (
        administrator("ann", "ssh-ed25519 AAAAnonsense ann"),
        "hardening:accounts:administrators:ann:keys:0: 'ssh-ed25519 AAAAnonsense ann' " + NO_KEY,
    ),
    "a private key": (
        administrator("bob", KEY, PRIVATE_KEY),
        f"hardening:accounts:administrators:bob:keys:1: *** {NO_KEY}",
    ),
    "a password in the clear": (
        {"accounts": {"password_hashes": {"cleo": SECRET}}},
        f"hardening:accounts:password_hashes:cleo: {NO_HASH}",
    ),
    "an unknown kind of hash": (
        {"accounts": {"password_hashes": {"dora": "$1$aSalt$vZxMPfu3MgqBCDSDnrHkB0"}}},
        f"hardening:accounts:password_hashes:dora: {NO_HASH}",
    ),
}


def waiver_mistakes(today: dt.date) -> dict[str, tuple[dict[str, Any], str]]:
    """Those with waivers, whose dates are about today."""
    waiver = {"reason": "a plan", "owner": "web", "approver": "security", "expires": today}
    latest, too_late = today + dt.timedelta(days=90), today + dt.timedelta(days=91)
    return {
        "a waiver without an end": (
            {"waivers": {"SAMPLE-001": {**waiver, "expires": None}}},
            "hardening:waivers:SAMPLE-001:expires: is missing",
        ),
        "a waiver of more than 90 days": (
            {"waivers": {"SAMPLE-001": {**waiver, "expires": too_late}}},
            f"hardening:waivers:SAMPLE-001:expires: {too_late} is more than 90 days away; the "
            f"latest is {latest}",
        ),
        "a waiver for an unknown control": (
            {"waivers": {"SAMPLE-01": waiver}},
            "hardening:waivers:SAMPLE-01: no such control; did you mean 'SAMPLE-001'?",
        ),
        "a waiver that its owner approved": (
            {"waivers": {"SAMPLE-001": {**waiver, "approver": "web"}}},
            "hardening:waivers:SAMPLE-001:approver: 'web' owns the waiver; somebody else approves "
            "it",
        ),
        "a waiver for what guards against lock-out": (
            {"waivers": {"SSHD-003": waiver}},
            "hardening:waivers:SSHD-003: this control guards against locking everybody out and "
            "cannot be excused",
        ),
    }


# Each setting is well-formed, and they do not go together.
CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a service that does not exist, in a role": (
        {"roles": {"web": {"minions": ["*"], "settings": {"firewall": {"allow": {"htps": []}}}}}},
        "hardening:roles:web:settings:firewall:allow:htps: no such service; did you mean 'https'?",
    ),
    "ssh for the world": (
        {"firewall": {"allow": {"ssh": ["public"]}}},
        "hardening:firewall:allow:ssh: 'public' lets 0.0.0.0/0 and ::/0 try to log in on port "
        "22; name the networks that administrators come from, such as "
        "hardening:networks:management: [10.0.0.0/24]",
    ),
    "an administrator whom sudo asks for a password that nobody has": (
        administrator("ann", nopasswd=False),
        "hardening:accounts:administrators:ann: sudo would ask ann for a password that nobody has; "
        "give it nopasswd: true, or a hash under hardening:accounts:password_hashes",
    ),
    "one name declared twice": (
        {"accounts": {**administrator("ann")["accounts"], "users": {"ann": {}}}},
        "hardening:accounts:administrators:ann: ann is declared twice, as administrator and under "
        "users; keep one",
    ),
    "a group that would lock everybody out": (
        {"accounts": {**administrator("ann")["accounts"], "administrators_group": "adm"}},
        "hardening:accounts:administrators_group: members of adm could not log in, for "
        "hardening:sshd:allow_groups lets in sudo only; name adm there",
    ),
    "an administrator who may not log in": (
        administrator("ann", shell="/usr/sbin/nologin"),
        "hardening:accounts:administrators:ann:shell: with /usr/sbin/nologin nobody can log in; "
        "write a shell such as /bin/bash",
    ),
}


def refused(minion: Minion, *words: str) -> str:
    """The one message of a run that stopped while it rendered; nothing was touched."""
    minion.host(greeting="tampered")
    result = minion.run("state.apply", *words)

    assert isinstance(result, list), result
    assert minion.looks == {"greeting": "tampered"}
    assert not minion.state_dir.exists()
    [message] = result
    return message


@pytest.mark.parametrize(
    "mistake", [*MISTAKES, *waiver_mistakes(dt.date(2000, 1, 1)), *CONTRADICTIONS]
)
def test_a_mistake_is_named_with_what_would_be_right(
    minion: Minion, today: dt.date, mistake: str
) -> None:
    pillar, sentence = {**MISTAKES, **waiver_mistakes(today), **CONTRADICTIONS}[mistake]
    minion.pillar(pillar)
    caller = minion.caller()

    assert caller.cmd("hardening.validate") == {"valid": False, "problems": [sentence]}
    assert caller.cmd("hardening.prepare") == {}
    assert not minion.state_dir.exists()


def test_all_mistakes_are_told_at_once_and_stop_the_run(minion: Minion, today: dt.date) -> None:
    mistakes = {**MISTAKES, **waiver_mistakes(today)}
    pillar: dict[str, Any] = {}
    for over, _ in mistakes.values():
        pillar = merge(pillar, over)
    # The three mistakes with one waiver end up in one entry, of which two can be made together.
    pillar["waivers"]["SAMPLE-001"]["expires"] = None
    minion.pillar(pillar)

    heading, *told = refused(minion, "hardening.sample").splitlines()
    expected = {
        sentence
        for name, (_, sentence) in mistakes.items()
        if name != "a waiver of more than 90 days"
    }
    assert {line.removeprefix("  - ") for line in told} == expected
    assert heading.endswith(f"failed: {len(told)} problems in the settings, nothing was changed:")


@pytest.mark.parametrize("sls", ["hardening", "hardening.sshd", "hardening.drift"])
def test_every_entrance_stops_for_a_mistake_in_any_family(minion: Minion, sls: str) -> None:
    minion.pillar({"sshd": {"ports": []}}, greeting=1)

    message = refused(minion, sls)
    assert message.endswith(
        "2 problems in the settings, nothing was changed:\n"
        "  - hardening:sshd:ports: [] is less than 1 entries\n"
        "  - hardening:sample:greeting: 1 is not a string (in quotes if YAML would read it as "
        "something else)"
    )


def test_a_contradiction_stops_the_run(minion: Minion) -> None:
    pillar, sentence = CONTRADICTIONS["ssh for the world"]
    minion.pillar(pillar)
    assert refused(minion, "hardening.sample").endswith(sentence)


def test_the_states_of_others_in_the_same_run_do_not_run_either(minion: Minion) -> None:
    own = minion.folder / "own"
    own.mkdir()
    marker = minion.folder / "marker"
    (own / "mine.sls").write_text(f"{marker}:\n  file.touch: [order: first]\n")
    roots = minion.options["file_roots"]["base"]
    minion.configure(file_roots={"base": [str(own), *roots]})
    minion.pillar({"sshd": {"port": 22}})

    assert "did you mean 'ports'?" in refused(minion, "mine,hardening")
    assert not marker.exists()


def test_a_mistake_stops_runs_of_another_environment(minion: Minion) -> None:
    roots = minion.options["file_roots"]["base"]
    minion.configure(file_roots={"base": [], "prod": roots})
    minion.pillar({"sshd": {"port": 22}})
    minion.host(greeting="tampered")

    [message] = minion.run("state.apply", "hardening.sample", saltenv="prod")
    assert "hardening:sshd:port: no such setting; did you mean 'ports'?" in message
    assert minion.looks == {"greeting": "tampered"}


def test_pillar_that_is_not_yaml_is_named_with_its_file(minion: Minion) -> None:
    minion.pillar_text("hardening:\n  sshd: {ports: [22\n")
    minion.host(greeting="tampered")

    for words in (["state.apply", "hardening.sample"], ["drift.report"]):
        result = minion.call("--local", *words)
        assert result.retcode == 1
        assert "Rendering SLS 'site' failed" in result.stdout + result.stderr
    assert minion.looks == {"greeting": "tampered"}
    assert not minion.state_dir.exists()


def test_an_unsupported_system_is_refused(minion: Minion) -> None:
    minion.configure(grains={"os": "Debian", "osmajorrelease": 11})

    message = refused(minion, "hardening.sample")
    assert "does not support debian-11; it supports debian-12, debian-13" in message


def test_the_message_reads_the_same_on_the_command_line(minion: Minion) -> None:
    minion.pillar({"sshd": {"ports": [70000]}})
    result = minion.call(
        "--local", "--log-level=quiet", "state.apply", "hardening", out="highstate"
    )

    assert result.retcode == 1
    assert result.stdout.splitlines() == [
        "local:",
        "    Data failed to compile:",
        "----------",
        "    Rendering SLS 'base:hardening.refused' failed: 1 problem in the settings, nothing was "
        "changed:",
        "  - hardening:sshd:ports:0: 70000 is more than 65535",
    ]


def test_a_secret_of_the_wrong_type_is_not_repeated(minion: Minion) -> None:
    minion.pillar({}, password=424242)

    message = refused(minion, "hardening.sample")
    assert "hardening:sample:password: *** is not a string" in message
    assert "424242" not in message


@pytest.mark.parametrize("mistake", ["a private key", "a password in the clear"])
def test_a_secret_of_somebody_is_printed_nowhere(minion: Minion, mistake: str) -> None:
    minion.pillar(MISTAKES[mistake][0])
    for words in (["state.apply", "hardening"], ["hardening.validate"], ["drift.report"]):
        result = minion.call("--local", *words)
        assert result.retcode == 1
        assert "hardening:accounts:" in result.stdout + result.stderr
        assert SECRET not in result.stdout + result.stderr
    written = [path for path in minion.folder.rglob("*") if path.is_file()]
    holding = [path for path in written if SECRET.encode() in path.read_bytes()]
    assert {path.name for path in holding} == {"site.sls"}, "the pillar itself"
