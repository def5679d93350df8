"""Who becomes root, by sudo's and su's own account of their rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from . import ways
from .asking import Look
from .files import loose, named, stat
from .pillars import Expected

FAMILY = "accounts"
FOLDER = "/etc/sudoers.d"
HARMLESS = re.compile(r"parsed OK$|^Warning: .* unused \w+_Alias ")  # in visudo's own words
OURS, PEOPLE = f"{FOLDER}/zz-rocksalt", f"{FOLDER}/zz-rocksalt-administrators"
# Options as cvtsudoers has them, and their values; or {the setting that has it}.
OPTIONS: dict[str, dict[str, Any]] = {
    "ACC-023": {"use_pty": True},
    "ACC-024": {"logfile": "{sudo_log}"},
    "ACC-025": {"env_reset": True, "secure_path": "{sudo_path}"},
    "ACC-026": {"timestamp_timeout": "{sudo_timeout}"},
    "ACC-027": {
        "authenticate": True,
        "exempt_group": False,
        "rootpw": False,
        "runaspw": False,
        "targetpw": False,
    },
    "ACC-028": {"log_input": "{sudo_log_input}"},
}
SUDO_DEFAULTS = {"authenticate": True, "env_reset": True}  # of sudo itself; others are off


def look(wanted: Expected) -> dict[str, str]:
    return {
        "rules": "cvtsudoers -e -f json /etc/sudoers",
        "checked": "visudo -c",
        "ours": f"cat {OURS}",
        "includes": "grep -hE '^[@#]include' /etc/sudoers /etc/sudoers.d/*",
        "conf": "grep -shE '^[[:space:]]*Plugin' /etc/sudo.conf",
        "stat": stat("/etc/sudoers /etc/sudoers.d{,/*} /etc/sudo.conf"),
        "rotated": "cat /etc/logrotate.d/rocksalt-sudo",
        "su": stat("/usr/bin/su"),
        "kept": "dpkg-statoverride --list /bin/su /usr/bin/su;"
        " dpkg-statoverride --list | grep -E '/bin/su$'",
        **ways.look(wanted),
    }


def sudoers(seen: Look) -> dict[str, Any]:
    assert not seen["rules"].code, seen["rules"].said
    found = json.loads(seen["rules"].text[seen["rules"].text.index("{") :])
    return {"Defaults": [], "User_Specs": [], **found}


def specs(seen: Look) -> Iterator[tuple[set[str], dict[str, Any]]]:
    """Who (``ann``, ``%group``) may do what, by line and command list."""
    signs = {"usergroup": "%", "usergid": "%#", "userid": "#", "netgroup": "+"}
    for spec in sudoers(seen)["User_Specs"]:
        who = {
            signs.get(kind, "") + str(name)
            for user in spec["User_List"]
            for kind, name in user.items()
            if kind != "negated"
        }
        for commands in spec["Cmnd_Specs"]:
            options = {k: v for it in commands.get("Options", ()) for k, v in it.items()}
            yield who, {**commands, "options": options}


def passed_over(path: str) -> bool:
    """sudo reads no file of a folder whose name has a dot or ends in ``~``."""
    folder, _, name = path.rpartition("/")
    return folder == FOLDER and ("." in name or name.endswith("~"))


def value_of(template: Any, settings: dict[str, Any]) -> Any:
    if not isinstance(template, str):
        return template
    value = settings[template.strip("{}")]
    return value if isinstance(value, bool) else ":".join(map(str, _list(value)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("option", "template"),
    [
        pytest.param(option, value, marks=pytest.mark.controls(control), id=option)
        for control, options in OPTIONS.items()
        for option, value in options.items()
    ],
)
def test_option(seen: Look, settings: dict[str, Any], option: str, template: Any) -> None:
    expected = value_of(template, settings)
    everybody: list[Any] = [SUDO_DEFAULTS.get(option, False)]
    some: list[Any] = []
    for entry in sudoers(seen)["Defaults"]:
        for options in entry["Options"]:
            if option in options:
                (some if entry.get("Binding") else everybody).append(options[option])
    assert everybody[-1] == expected
    assert [value for value in some if value != expected] == []


@pytest.mark.controls("ACC-020")
def test_our_file_has_only_options(seen: Look) -> None:
    lines = [line for line in seen["ours"].lines if not line.startswith("#")]
    assert not seen["ours"].code, seen["ours"].said
    assert lines and all(line.startswith("Defaults ") for line in lines)
    assert {OURS, PEOPLE} <= named(seen["stat"]).keys()


@pytest.mark.controls("ACC-021")
def test_sudo_accepts_its_files(seen: Look) -> None:
    assert not seen["checked"].code, seen["checked"].said
    assert [line for line in seen["checked"].found if not HARMLESS.search(line)] == []
    files = named(seen["stat"])
    assert loose(files, 0o022) == []
    readable = {p: it for p, it in files.items() if not it.folder and "sudoers" in p}
    assert loose(readable, 0o007) == []


@pytest.mark.controls("ACC-022")
def test_sudo_reads_no_other_files(seen: Look) -> None:
    assert {line.split(None, 1)[1].strip() for line in seen["includes"].lines} == {FOLDER}
    files = {path: it for path, it in named(seen["stat"]).items() if not passed_over(path)}
    links = [path for path, it in files.items() if it.kind == "symbolic link"]
    own = [line for line in seen["conf"].lines if "=" in line]
    assert (links, own) == ([], [])


@pytest.mark.controls("ACC-024")
def test_the_log_is_rotated(seen: Look, settings: dict[str, Any]) -> None:
    assert settings["sudo_log"] in seen["rotated"].text.split()


@pytest.mark.controls("ACC-028")
def test_no_rule_records_what_is_typed(seen: Look, settings: dict[str, Any]) -> None:
    if not settings["sudo_log_input"]:
        assert [who for who, it in specs(seen) if it["options"].get("log_input")] == []


@pytest.mark.controls("ACC-027", "ACC-029")
def test_nobody_else_becomes_root(seen: Look, settings: dict[str, Any], judged: set[str]) -> None:
    group = f"%{settings['administrators_group']}"
    declared = {"root", group, *settings["administrators"], *settings["sudo_grants"]}
    if "ACC-029" in judged:
        assert set().union(*(who for who, _ in specs(seen))) - declared == set()
    if "ACC-027" in judged:
        unasked = [
            who
            for who, it in specs(seen)
            if group in who and it["options"].get("authenticate") is False
        ]
        assert unasked == []


@pytest.mark.controls("ACC-012")
def test_administrators_become_root(seen: Look, wanted: Expected, settings: dict[str, Any]) -> None:
    problems = ways.problems(seen, wanted)
    assert [who for who, texts in problems.items() if "ACC-012" in texts.values()] == []
    about = ways.parts(seen["sudo"].text)
    for name, person in settings["administrators"].items():
        rules = ways.grants(about[name])
        assert rules, about[name]
        if person.get("nopasswd"):
            assert rules[-1] == "(ALL : ALL) NOPASSWD: ALL"
        else:
            assert rules[-1] in ("(ALL : ALL) ALL", "(ALL : ALL) PASSWD: ALL")


@pytest.mark.controls("ACC-004")
def test_only_administrators_can_use_su(seen: Look, settings: dict[str, Any]) -> None:
    (su,) = named(seen["su"]).values()
    assert (su.owner, su.group) == ("root", settings["administrators_group"])
    assert su.mode & 0o7 == 0
    assert f"root {su.group} 4750" in seen["kept"].text
