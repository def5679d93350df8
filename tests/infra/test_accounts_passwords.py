"""What PAM, shadow and login.defs say of passwords, log-ins and sessions."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .asking import Answer, Look
from .pillars import Expected

FAMILY = "accounts"
AGES = (
    """awk -F: '{print $1 ":" $5 ":" (($2 ~ /^[!*]/ || $2 == "") ? "none" : "some")}' /etc/shadow"""
)
QUALITY = "cat /etc/security/pwquality.conf.d/*.conf /etc/security/pwquality.conf 2>/dev/null"
NEVER = ("", "99999", "-1")


def look(wanted: Expected) -> dict[str, str]:
    return {
        "auth": "cat /etc/pam.d/common-auth",
        "account": "cat /etc/pam.d/common-account",
        "password": "cat /etc/pam.d/common-password",
        "session": "cat /etc/pam.d/common-session",
        "nullok": "grep -lE '^[^#]*nullok' /etc/pam.d/*",
        "quality": QUALITY,
        "faillock": "grep -vE '^[[:space:]]*(#|$)' /etc/security/faillock.conf",
        "logindefs": "grep -vE '^[[:space:]]*(#|$)' /etc/login.defs",
        "ages": AGES,
        "profiles": "cat /etc/profile /etc/bash.bashrc /etc/profile.d/*.sh",
        "umasks": "grep -hE '^[^#]*\\bumask +[0-7]' /etc/profile /etc/bash.bashrc"
        " /etc/profile.d/*.sh /root/.profile /root/.bashrc",
    }


def stack(answer: Answer, module: str) -> list[str]:
    """The lines of a stack that call one module."""
    return [it for it in answer.lines if re.search(rf"^[^#]*\b{module}\.so\b", it)]


def options(line: str) -> dict[str, str]:
    """The options behind a module: name -> value, empty where it has none."""
    words = line.partition(".so")[2].split()
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def assigned(answer: Answer, sign: str = "=") -> dict[str, str]:
    """Settings of a file, of a repeated one the last; ``sign`` stands between name and value."""
    rows = (line.partition("#")[0].partition(sign) for line in answer.lines)
    return {name.strip(): value.strip() for name, _, value in rows if name.strip()}


@pytest.mark.controls("ACC-070")
def test_quality(seen: Look, settings: dict[str, Any]) -> None:
    (line,) = stack(seen["password"], "pam_pwquality")
    found = {**assigned(seen["quality"]), **options(line)}
    assert re.search(r"\b(requisite|required)\b", line)
    assert int(found["minlen"]) == settings["password_length"]
    credits = [int(found.get(f"{kind}credit", "0")) for kind in "dulo"]
    assert max(credits) <= 0 and found.get("enforcing", "1") == "1"
    assert found.get("dictcheck", "1") == "1" and found.get("usercheck", "1") == "1"


@pytest.mark.controls("ACC-071")
def test_history(seen: Look, settings: dict[str, Any]) -> None:
    (line,) = stack(seen["password"], "pam_pwhistory")
    assert int(options(line)["remember"]) == settings["password_history"]


@pytest.mark.controls("ACC-072")
def test_lockout(seen: Look, settings: dict[str, Any]) -> None:
    lines = stack(seen["auth"], "pam_faillock")
    assert [{"preauth", "authfail"} & options(it).keys() for it in lines] == [
        {"preauth"},
        {"authfail"},
    ]
    others = [it for it in seen["auth"].lines if re.match(r"^-?auth\b", it)]
    assert others[0] == lines[0] and others.index(lines[1]) < len(others) - 1
    for line in lines:
        found = {**assigned(seen["faillock"]), **options(line)}
        assert int(found["deny"]) == settings["lockout_failures"]
        assert int(found["unlock_time"]) == settings["lockout_seconds"]
        assert not {"even_deny_root", "no_lock"} & found.keys()
    assert stack(seen["account"], "pam_faillock")


@pytest.mark.controls("ACC-073")
def test_no_empty_password_opens(seen: Look) -> None:
    assert seen["nullok"].found == []
    lines = [it for it in seen["auth"].lines if it.startswith("auth")]
    modules = [re.search(r"(pam_\w+)\.so", it) for it in lines]
    names = [it[1] if it else "" for it in modules]
    place = names.index("pam_deny")
    assert "pam_permit" not in names[:place]
    unix = lines[names.index("pam_unix")]
    skipped = re.search(r"success=(\d+)", unix)
    assert skipped and names[names.index("pam_unix") + int(skipped[1]) + 1] == "pam_permit"
    assert place <= names.index("pam_unix") + int(skipped[1])


@pytest.mark.controls("ACC-074")
def test_hash(seen: Look) -> None:
    (line,) = stack(seen["password"], "pam_unix")
    others = {"md5", "bigcrypt", "sha256", "sha512", "blowfish", "gost_yescrypt"}
    assert "yescrypt" in options(line) and not others & options(line).keys()
    assert assigned(seen["logindefs"], " ")["ENCRYPT_METHOD"] == "YESCRYPT"


@pytest.mark.controls("ACC-075")
def test_new_accounts(seen: Look, settings: dict[str, Any]) -> None:
    rows = [line.split(None, 1) for line in seen["logindefs"].lines]
    found: dict[str, set[str]] = {}
    for name, value in rows:
        found.setdefault(name, set()).add(value.strip())
    most = settings["password_max_days"]
    assert found["PASS_MAX_DAYS"] == {str(most or 99999)}
    assert found["PASS_MIN_DAYS"] == {str(settings["password_min_days"])}
    assert found["PASS_WARN_AGE"] == {str(settings["password_warn_days"])}
    assert {value.lstrip("0") for value in found["UMASK"]} == {settings["umask"].lstrip("0")}


@pytest.mark.controls("ACC-076")
def test_ageing(seen: Look, wanted: Expected, settings: dict[str, Any]) -> None:
    most = settings["password_max_days"]
    free = {"root", *(name for name, it in settings["users"].items() if it.get("ages") is False)}
    wrong = []
    for line in seen["ages"].lines:
        name, days, password = line.split(":")
        ends = password == "some" and most and name not in {*free, *wanted.digests}
        good = days not in NEVER and int(days) <= most if ends else days in NEVER
        wrong += [] if good or name in free else [line]
    assert wrong == []


@pytest.mark.controls("ACC-077")
def test_umask(seen: Look, settings: dict[str, Any]) -> None:
    line = stack(seen["session"], "pam_umask")[-1]  # Debian 13 has one of its own before
    wanted = settings["umask"].lstrip("0")
    assert options(line)["umask"].lstrip("0") == wanted
    others = {it.split("umask")[1].split()[0].lstrip("0") for it in seen["umasks"].lines}
    assert others <= {wanted}


@pytest.mark.controls("ACC-078")
def test_idle_shells_end(seen: Look, settings: dict[str, Any]) -> None:
    found = re.findall(r"^[^#\n]*\bTMOUT=(\d+)", seen["profiles"].text, re.M)
    if settings["shell_timeout"]:
        assert found and set(found) == {str(settings["shell_timeout"])}
    else:
        assert set(found) <= {"0"}
