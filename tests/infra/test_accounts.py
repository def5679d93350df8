"""Who can log in, by what the host's databases say."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from . import keys, ways
from .asking import Look
from .files import loose, named, stat
from .pillars import Expected

FAMILY = "accounts"
# A word instead of a hash: nobody has to see the hashes to judge them.
KIND = r"""awk -F: '{ h = $2; sub(/^!+/, "", h)
  if ($2 == "") k = "empty"; else if ($2 ~ /^[!*]/) k = "locked"
  else if (split(h, p, "$") > 2) k = p[2]; else k = "des"
  print $1 ":" k ":" $5 ":" $8 }' /etc/shadow"""
DIGESTS = r"""for who in %s; do
  printf '%%s ' $who; awk -F: -v w=$who '$1 == w { printf "%%s", $2 }' /etc/shadow | sha256sum
done"""
HOMES = "awk -F: '($3 == 0 || ($3 >= 1000 && $3 < 60000)) {print $6}' /etc/passwd | sort -u"
DEBUG = "debug-shell.service"
UNASKED = re.compile(r"\s--autologin\b|\s-a|[\s/]login\s[^;]*-f\b")  # of agetty, and login
NO_SHELLS = ("/nologin", "/false", "/sync", "/git-shell")
WEAK = {"des", "1", "2", "2a", "2x", "3", "md5", "sha1"}
EVERYBODY_HAS = (  # private halves of these are in Vagrant's repository
    "AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8",
    "AAAAC3NzaC1lZDI1NTE5AAAAIN1YdxBpNlzxDqfJyw/QKow1F+wvG9hXGoqiysfJOn5Y",
)


def look(wanted: Expected) -> dict[str, str]:
    show = "systemctl show -p Id,ExecStart,Environment,ActiveState,UnitFileState"
    return {
        "passwd": "cat /etc/passwd",
        "group": "cat /etc/group",
        "shadow": KIND,
        "digests": DIGESTS % (" ".join(wanted.digests) or "root"),
        "root": "passwd -S root",
        "stat": stat("/etc/passwd /etc/group /etc/shadow /etc/gshadow"),
        "units": f"{show} console-getty.service getty@tty1.service serial-getty@ttyS0.service"
        f" 'getty@*' 'serial-getty@*' 'container-getty@*' {DEBUG} rescue.service emergency.service",
        "crontabs": "! test -d /var/spool/cron/crontabs || ls /var/spool/cron/crontabs",
        "homes": stat(f"$({HOMES})"),
        "dotted": f"for home in $({HOMES}); do"
        " find $home -maxdepth 1 -name '.*' -type f -perm /022;"
        " ls $home/.rhosts $home/.shosts; find $home/.ssh -name 'id_*' ! -name '*.pub' -perm /077;"
        " done 2>/dev/null",
        **ways.look(wanted),
    }


@dataclass(frozen=True)
class Account:
    """One line of passwd, with what shadow says of it."""

    name: str
    password: str
    uid: int
    gid: int
    home: str
    shell: str
    kind: str = "locked"  # of the hash in shadow
    most_days: str = ""
    expires: str = ""

    @property
    def has_shell(self) -> bool:
        return not self.shell.endswith(NO_SHELLS)

    @property
    def has_password(self) -> bool:
        return self.kind != "locked" or self.password != "x"

    @property
    def person(self) -> bool:
        return 1000 <= self.uid < 60000


def accounts(seen: Look) -> list[Account]:
    assert not seen["shadow"].code, seen["shadow"].said
    rows = (line.split(":") for line in seen["shadow"].lines)
    secret = {name: rest for name, *rest in rows}
    found = []
    for line in seen["passwd"].lines:
        if not line.startswith("+"):
            name, password, uid, gid, _, home, shell = line.split(":")
            rest = secret.get(name, [])
            found.append(Account(name, password, int(uid), int(gid), home, shell, *rest))
    return found


def groups(seen: Look) -> list[list[str]]:
    return [line.split(":") for line in seen["group"].lines if not line.startswith("+")]


def declared(settings: dict[str, Any]) -> set[str]:
    return {*settings["administrators"], *settings["users"]}


@pytest.mark.controls("ACC-001")
def test_root_has_no_password(seen: Look) -> None:
    assert seen["root"].text.split()[1:2] == ["L"]


@pytest.mark.controls("ACC-002")
def test_emergency_shell(seen: Look, settings: dict[str, Any]) -> None:
    for name in ("rescue.service", "emergency.service"):
        force = "SYSTEMD_SULOGIN_FORCE=1" in seen["units"].blocks[name]["Environment"]
        assert force == settings["emergency_shell"], name


@pytest.mark.controls("ACC-003")
def test_no_console_logs_in_by_itself(seen: Look) -> None:
    found = seen["units"].blocks
    lines = {name: it.get("ExecStart", "") for name, it in found.items() if "getty" in name}
    assert lines and [name for name, line in lines.items() if UNASKED.search(line)] == []
    shell = found[DEBUG]
    assert shell["ActiveState"] != "active" and shell["UnitFileState"] != "enabled", DEBUG


@pytest.mark.controls("ACC-005")
def test_root_never_expires(seen: Look) -> None:
    assert [it.expires for it in accounts(seen) if it.name == "root"] == [""]


@pytest.mark.controls("ACC-010", "ACC-011")
def test_administrators_can_log_in(
    seen: Look, wanted: Expected, settings: dict[str, Any], judged: set[str]
) -> None:
    found = ways.problems(seen, wanted)
    kept = {who: [text for text, it in all_.items() if it in judged] for who, all_ in found.items()}
    assert {who: problems for who, problems in kept.items() if problems} == {}
    if "ACC-011" in judged:
        for name, person in settings["administrators"].items():
            assert keys.declared(person["keys"]) - ways.opening(seen, name) == set(), name
    if "ACC-010" in judged:
        members = {name: names.split(",") for name, _, _, names in groups(seen)}
        mine = members[settings["administrators_group"]]
        assert set(settings["administrators"]) <= set(mine)


@pytest.mark.controls("ACC-013")
def test_administrators_have_the_declared_passwords(seen: Look, wanted: Expected) -> None:
    found = dict(line.split()[:2] for line in seen["digests"].lines)
    assert {name: found.get(name) for name in wanted.digests} == wanted.digests


@pytest.mark.controls("ACC-040")
def test_accounts_of_images_are_locked(seen: Look, settings: dict[str, Any]) -> None:
    theirs = set(settings["default_accounts"]) - declared(settings)
    found = [it for it in accounts(seen) if it.name in theirs]
    usable = [it.name for it in found if it.has_password or it.has_shell or it.expires != "1"]
    assert usable == []


@pytest.mark.controls("ACC-041")
def test_no_key_that_everybody_has(seen: Look) -> None:
    found = keys.shown(seen["authorized"])
    assert [who for who, _, key in found if key.blob.startswith(EVERYBODY_HAS)] == []


@pytest.mark.controls("ACC-042")
def test_only_declared_keys(
    seen: Look, wanted: Expected, settings: dict[str, Any], excused: dict[str, Any]
) -> None:
    theirs = keys.handed_out(wanted)
    locked = set() if "ACC-040" in excused else {*settings["default_accounts"]} - declared(settings)
    strange = []
    for who, line, key in keys.shown(seen["authorized"]):
        person = settings["administrators"].get(who) or settings["users"].get(who)
        if who in locked or key.blob.startswith(EVERYBODY_HAS):
            continue
        if who in declared(settings):
            lines = (person or {}).get("keys")
            known = lines is None or key.opens_no_more_than(keys.declared(lines))
        else:
            forced = any(option.startswith("command=") for option in key.options)
            known = forced and keys.Key(key.blob) in theirs.get(who, ())
        if not known:
            strange.append(f"{who}: {line}")
    assert strange == []


@pytest.mark.controls("ACC-043")
def test_only_declared_people(seen: Look, settings: dict[str, Any]) -> None:
    known = {*declared(settings), *settings["default_accounts"]}
    people = [it for it in accounts(seen) if it.person and it.name not in known]
    open_ = [it.name for it in people if (it.has_shell or it.has_password) and it.expires != "1"]
    assert open_ == []


@pytest.mark.controls("ACC-044")
def test_privileged_groups(seen: Look, settings: dict[str, Any]) -> None:
    strange = []
    for name, _, gid, names in groups(seen):
        if name in {*settings["privileged_groups"], settings["administrators_group"]}:
            members = {it for it in names.split(",") if it}
            if gid != "0":
                members |= {it.name for it in accounts(seen) if str(it.gid) == gid}
            may = {"root", *settings["members"].get(name, ())}
            if name == settings["administrators_group"]:
                may |= set(settings["administrators"])
            strange += [f"{it} in {name}" for it in members - may]
    assert strange == []


@pytest.mark.controls("ACC-045")
def test_no_stranger_has_a_crontab(seen: Look, settings: dict[str, Any]) -> None:
    assert not seen["crontabs"].code, seen["crontabs"].said
    may = {*declared(settings), *settings["crontab_users"]}
    assert [it for it in seen["crontabs"].lines if it not in may] == []


@pytest.mark.controls("ACC-050", "ACC-051")
def test_root_alone_is_zero(seen: Look, judged: set[str]) -> None:
    if "ACC-050" in judged:
        assert [it.name for it in accounts(seen) if it.uid == 0] == ["root"]
    if "ACC-051" in judged:
        assert [name for name, _, gid, _ in groups(seen) if gid == "0"] == ["root"]


@pytest.mark.controls("ACC-052")
def test_no_empty_or_readable_password(seen: Look) -> None:
    assert [it.name for it in accounts(seen) if it.kind == "empty" or it.password != "x"] == []


@pytest.mark.controls("ACC-053")
def test_no_lines_for_nis(seen: Look) -> None:
    assert [it for key in ("passwd", "group") for it in seen[key].lines if it[0] in "+-"] == []


@pytest.mark.controls("ACC-054")
def test_system_accounts_cannot_log_in(
    seen: Look, wanted: Expected, settings: dict[str, Any]
) -> None:
    families = wanted.baseline.families
    hand_over = {families["luks"].settings["user"], "rocksalt-vault", "rocksalt-witness"}
    free = {"root", *declared(settings), *settings["system_logins"], *hand_over}
    free |= set(settings["default_accounts"])
    system = [it for it in accounts(seen) if not it.person and it.uid != 0]
    assert [it.name for it in system if it.has_shell and it.name not in free] == []
    assert [it.name for it in system if it.has_password and it.name not in declared(settings)] == []


@pytest.mark.controls("ACC-055")
def test_names_and_numbers_are_unique(seen: Look) -> None:
    people, teams = accounts(seen), groups(seen)
    for values in (
        [it.name for it in people],
        [it.uid for it in people if it.uid],
        [name for name, *_ in teams],
        [gid for _, _, gid, _ in teams if gid != "0"],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []


@pytest.mark.controls("ACC-056")
def test_home_folders(seen: Look) -> None:
    owners = {it.home: it.name for it in accounts(seen) if it.uid == 0 or it.person}
    owners["/root"] = "root"
    homes = named(seen["homes"])
    assert "/root" in homes
    wrong = [
        found for path, it in homes.items() for found in loose({path: it}, 0o022, owners[path])
    ]
    assert wrong == []


@pytest.mark.controls("ACC-057")
def test_files_in_home_folders(seen: Look) -> None:
    assert seen["dotted"].lines == []


@pytest.mark.controls("ACC-058")
def test_no_weak_hash(seen: Look) -> None:
    assert [it.name for it in accounts(seen) if it.kind in WEAK] == []


@pytest.mark.controls("ACC-059")
def test_account_files_are_roots(seen: Look) -> None:
    files = named(seen["stat"])
    assert len(files) == 4 and loose(files, 0o022) == []
    assert loose({path: it for path, it in files.items() if "shadow" in path}, 0o007) == []
    assert {it.group for it in files.values()} <= {"root", "shadow"}
