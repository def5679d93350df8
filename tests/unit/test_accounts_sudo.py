"""rocksalt.accounts.sudo: what sudoers means, what is expected of it, and how it is changed."""

from __future__ import annotations

import json
import os
import re
from types import SimpleNamespace

import pytest

from rocksalt import settings
from rocksalt.accounts import checks, database, sudo
from rocksalt.accounts.reading import Reading
from rocksalt.accounts.sudo import sudoers
from rocksalt.accounts.sudo.reading import ADMINISTRATORS, LOGROTATE, SETTINGS, VISUDO
from rocksalt.errors import Refused
from rocksalt.findings import Seen
from rocksalt.host import Attributes, Ran
from rocksalt.transaction import ASIDE, DISABLED

MAIN, FOLDER = sudoers.MAIN, sudoers.FOLDER
STOCK = """\
# As the distribution ships it.
Defaults\tenv_reset
Defaults\tsecure_path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Defaults\tuse_pty
root\tALL=(ALL:ALL) ALL
%sudo\tALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
"""
BROKEN = "this is no rule"
PASSWD = "root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\n"
GROUP = "root:x:0:\nsudo:x:27:ann\nann:x:1000:\n"
OVERRIDES = "/var/lib/dpkg/statoverride"


# A sudo that knows as much of its language as these tests write ----------------------------------


def member(word: str) -> dict[str, object]:
    kinds = {"%": "usergroup", "#": "userid", "+": "netgroup"}
    negated = {"negated": True} if word[0] == "!" else {}
    word = word.removeprefix("!")
    if word.isupper() and word != "ALL":
        return {"useralias": word, **negated}
    kind = kinds.get(word[0], "username")
    return {kind: word if kind == "username" else word[1:], **negated}


def option(word: str) -> dict[str, object]:
    name, equals, value = word.partition("=")
    return {name.lstrip("!"): value.strip('"') if equals else not word.startswith("!")}


def grant(line: str) -> dict[str, object]:
    found = re.fullmatch(
        r"(.+?)\s+(\S+?)\s*=\s*(?:\(([^:)]*)(?::[^)]*)?\))?\s*((?:\w+:)*)(.+)", line
    )
    assert found, line
    users, host, runas, tags, commands = found.groups()
    entry = {"Options": [], "Commands": [command(c) for c in commands.split(", ")]}
    if runas is not None:
        entry["runasusers"] = [member(word) for word in runas.split(",")]
    if "PASSWD" in tags:
        entry["Options"].append({"authenticate": "NOPASSWD" not in tags})
    if "LOG_INPUT" in tags:
        entry["Options"].append({"log_input": True})
    names = [member(word.strip()) for word in users.split(",")]
    return {"User_List": names, "Host_List": [{"hostname": host}], "Cmnd_Specs": [entry]}


def command(word: str) -> dict[str, object]:
    negated = {"negated": True} if word.strip()[0] == "!" else {}
    return {"command": word.strip().removeprefix("!"), **negated}


def cvtsudoers(text: str) -> dict[str, object]:
    found: dict[str, object] = {"Defaults": [], "User_Specs": [], "User_Aliases": {}}
    for line in filter(None, map(str.strip, text.split("\n"))):
        if line.startswith("User_Alias"):
            name, _, names = line.split(None, 1)[1].partition("=")
            found["User_Aliases"][name.strip()] = [member(w.strip()) for w in names.split(",")]
        elif line.startswith("Defaults"):
            scope, words = re.fullmatch(r"Defaults(?:[:!@>](\S+))?\s+(.*)", line).groups()
            binding = {"Binding": [member(scope)]} if scope else {}
            options = [option(word) for word in words.split(", ")]
            found["Defaults"].append({**binding, "Options": options})
        else:
            found["User_Specs"].append(grant(line))
    return found


def visudo(host, path: str) -> Ran:
    read = {line.path: None for line in sudoers.in_reading_order(host.read, host.glob, path)}
    faults = [
        f"{host.path(line.path)}:{line.number}:1: syntax error"
        for line in sudoers.in_reading_order(host.read, host.glob, path)
        if BROKEN in line.text and not line.text.startswith("#")
    ]
    lost = [name for name in read if host.read(name) is None]
    faults = faults or [f"visudo: {name}: No such file or directory" for name in lost]
    listed = "".join(f"{host.path(name)}: parsed OK\n" for name in read)
    return Ran(1, "", "\n".join(faults)) if faults else Ran(0, listed, "")


@pytest.fixture
def sudo_host(host, monkeypatch, judged):
    """A host on which all that is expected of sudo and su is so; ann is the administrator."""
    host.su = "root:sudo 4750"
    plain = host.attributes

    def run(*line: str, timeout: float = 30, text: str = "") -> Ran:
        host.ran.append(line)
        if line[0] == VISUDO:
            return visudo(host, line[-1].removeprefix(host.root))
        if line[0].endswith("cvtsudoers"):
            return host.answers.get(line[:1]) or Ran(0, json.dumps(cvtsudoers(text)), "")
        if line[0] == "mv":
            os.rename(*line[-2:])
        return host.answers.get(line[:1], Ran(0, "", ""))

    def attributes(path: str, follow: bool = True):
        if path == "/usr/bin/su" and plain(path):
            return Attributes(host.su[-4:], *host.su[:-5].split(":"), 0)
        return plain(path, follow)

    monkeypatch.setattr(host, "run", run)
    monkeypatch.setattr(host, "attributes", attributes)
    for path in (VISUDO, "/usr/sbin/logrotate", "/usr/bin/su", "/run/x"):
        host.put(path)
    host.put("/etc/passwd", PASSWD)
    host.put("/etc/group", GROUP)
    host.put("/var/lib/dpkg/info/util-linux.list", "/.\n/usr/bin/su\n")
    host.put(OVERRIDES, "root crontab 2755 /usr/bin/crontab\nroot sudo 4750 /usr/bin/su\n")
    host.put(MAIN, STOCK, 0o440)
    host.put(f"{FOLDER}/README", "#\n# Nothing.\n", 0o440)
    for path, text in sudo.render(judged(host)).items():
        host.put(path, text, 0o644 if path == LOGROTATE else 0o440)
    return host


@pytest.fixture
def judged(shipped, public_key):
    """The comparison of a host with settings of the family and other parts of a pillar."""

    def call(host, nopasswd: bool = True, waivers=None, **accounts) -> checks.Accounts:
        entry = {"keys": [public_key()], "nopasswd": nopasswd}
        pillar = {"accounts": {"administrators": {"ann": entry}, **accounts}}
        if waivers:
            pillar["waivers"] = waivers
        people = database.read(host)
        found = Reading(people=people, sudo=sudo.read(host, people))
        return checks.Accounts(settings.resolve(shipped, pillar, {}, "web1"), found)

    return call


def differing(it) -> dict[str, SimpleNamespace]:
    """Control id -> what was seen, of those that are not as expected."""
    seen = {i: look(it) for i, (_, look) in sudo.CHECKS.items()}
    return {
        i: look for i, look in seen.items() if look.problem or look.actual != sudo.CHECKS[i][0](it)
    }


def append(host, path: str, text: str) -> None:
    host.put(path, (host.read(path) or "") + text, 0o440)


# The language ------------------------------------------------------------------------------------


def test_a_continued_line_is_one_and_a_remark_ends_where_it_ends():
    text = "ann ALL=/bin/ls, \\\n  /bin/cat\n# x \\\nbob ALL=ALL\n#1000 ALL=/bin/ls, \\\n /bin/cat"
    found = [(line.number, line.last, line.says) for line in sudoers.lines("/f", text)]
    assert found == [(1, 2, True), (3, 3, False), (4, 4, True), (5, 6, True)]


@pytest.mark.parametrize(
    ("text", "include"),
    [
        ("@include /etc/a", ("/etc/a", False)),
        ("  #includedir /etc/a.d # all", ("/etc/a.d", True)),
        ('@include "/etc/a b"', ("/etc/a b", False)),
        ("@include /etc/a\\ b", ("/etc/a b", False)),
        ("@include a", ("/etc/a", False)),
        ("@include \\\n /etc/a", ("/etc/a", False)),
        ("#includex /etc/a", None),
        ("# include /etc/a", None),
    ],
)
def test_what_a_line_includes(text, include):
    (line,) = sudoers.lines(MAIN, text)
    assert line.include == include
    assert not line.says


def test_files_are_read_where_they_are_included(host):
    host.put(MAIN, "a ALL=ALL\n@includedir /etc/sudoers.d\nz ALL=ALL\n")
    for name in ("20", "10", "no.dot", "backup~"):
        host.put(f"{FOLDER}/{name}", f"u{name} ALL=ALL")
    found = [line.text[:3] for line in sudoers.in_reading_order(host.read, host.glob) if line.says]
    assert found == ["a A", "u10", "u20", "z A"]


def test_a_file_that_includes_itself_ends(host):
    host.put(MAIN, f"@include {MAIN}\n")
    assert len(list(sudoers.in_reading_order(host.read, host.glob))) == 256


def test_every_rule_is_found_where_it_stands():
    lines = sudoers.lines("/f", "ann ALL=ALL\n\nDefaults use_pty\nbob ALL=ALL")
    text, mark = sudoers.traced(lines)
    found = sudoers.policy(json.dumps(cvtsudoers(text)), lines, mark)
    assert [spec.line.number for spec in found.specs] == [1, 4]
    assert [(d.name, d.value, d.line.number) for d in found.defaults] == [("use_pty", True, 3)]


def test_nobody_hides_behind_the_mark():
    lines = sudoers.lines("/f", "rocksalt.line.0 ALL=ALL")
    text, mark = sudoers.traced(lines)
    found = sudoers.policy(json.dumps(cvtsudoers(text)), lines, mark)
    assert [spec.users for spec in found.specs] == [[{"username": "rocksalt.line.0"}]]


def test_what_is_no_policy_is_refused():
    with pytest.raises(ValueError, match="before the first line"):
        sudoers.policy('{"Defaults": [{"Options": []}]}', [], "rocksalt.line.")


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([{"username": "ALL"}], True),
        ([{"usergroup": "sudo"}], True),
        ([{"userid": 1000}], True),
        ([{"username": "bob"}, {"netgroup": "ann"}], False),
        ([{"username": "ALL"}, {"username": "ann", "negated": True}], False),
        ([{"useralias": "ADMINS"}], True),
        ([{"useralias": "ADMINS", "negated": True}], False),
        ([{"useralias": "NOBODY"}], False),
    ],
)
def test_whom_a_list_names(members, named):
    aliases = {"ADMINS": [{"username": "bob"}, {"username": "ann"}]}
    assert sudoers.among(members, ["ann", "#1000", "%sudo"], aliases) is named


def test_an_alias_of_itself_ends():
    circle = {"A": [{"useralias": "A"}]}
    assert not sudoers.among(circle["A"], ["ann"], circle)
    assert list(sudoers.everybody(circle["A"], circle)) == []


# What is seen ------------------------------------------------------------------------------------


def test_as_expected(sudo_host, judged):
    assert differing(judged(sudo_host)) == {}
    assert [line[0] for line in sudo_host.ran[-2:]] == [VISUDO, "/usr/bin/cvtsudoers"]


def test_the_files(judged, host):
    found = sudo.render(judged(host, sudo_timeout=7, sudo_path=["/bin", "/sbin"]))
    lines = found[SETTINGS].splitlines()
    assert lines[0].startswith("# Written by rocksalt")
    assert {"Defaults use_pty", "Defaults env_reset", "Defaults !log_input"} <= {*lines}
    assert "authenticate" not in found[SETTINGS], "written before anybody keeps a way in"
    assert {'Defaults timestamp_timeout="7"', 'Defaults secure_path="/bin:/sbin"'} <= {*lines}
    assert found[ADMINISTRATORS].splitlines()[1:] == ["ann ALL=(ALL:ALL) NOPASSWD: ALL"]
    assert "/var/log/sudo.log {" in found[LOGROTATE]
    asked = sudo.render(judged(host, nopasswd=False))
    assert asked[ADMINISTRATORS].splitlines()[1:] == ["ann ALL=(ALL:ALL) ALL"]


def test_what_is_waived_is_not_in_the_files(judged, host, waiver):
    waived = {i: waiver() for i in ("ACC-012", "ACC-023", "ACC-024")}
    found = sudo.render(judged(host, waivers=waived))
    assert list(found) == [SETTINGS]
    assert "use_pty" not in found[SETTINGS]
    assert "logfile" not in found[SETTINGS]


@pytest.mark.parametrize(
    ("path", "text", "drifts"),
    [
        (
            f"{FOLDER}/zzz",
            "Defaults !use_pty",
            {"ACC-023": f"{FOLDER}/zzz line 1 makes use_pty no"},
        ),
        (f"{FOLDER}/aaa", "Defaults !use_pty", {}),
        (
            f"{FOLDER}/aaa",
            "Defaults:bob !use_pty, logfile=/tmp/l",
            {
                "ACC-023": f"{FOLDER}/aaa line 1 makes use_pty for bob no",
                "ACC-024": f"{FOLDER}/aaa line 1 makes logfile for bob /tmp/l",
            },
        ),
        (MAIN, "Defaults secure_path=/tmp", {"ACC-025": f"{MAIN} line 8 makes secure_path /tmp"}),
        (MAIN, "Defaults timestamp_timeout=5", {}),
        (
            MAIN,
            "Defaults timestamp_timeout=-1",
            {"ACC-026": f"{MAIN} line 8 makes timestamp_timeout -1"},
        ),
        (MAIN, "Defaults rootpw", {"ACC-027": f"{MAIN} line 8 makes rootpw yes"}),
        (MAIN, "Defaults exempt_group=x", {"ACC-027": f"{MAIN} line 8 makes exempt_group x"}),
        (
            MAIN,
            "root ALL=(ALL) LOG_INPUT:ALL",
            {"ACC-028": f"{MAIN} line 8 makes log_input for root yes"},
        ),
        (
            MAIN,
            "%sudo ALL=(ALL) ALL",
            {"ACC-012": f"{MAIN} line 8 makes what sudo grants ann another than declared"},
        ),
        (
            MAIN,
            "ann ALL=(ALL) NOPASSWD:!/bin/su",
            {"ACC-012": f"{MAIN} line 8 makes what sudo grants ann another than declared"},
        ),
        (MAIN, "ann ALL=(www) /bin/ls", {}),
        (MAIN, f"{BROKEN}", {"ACC-021": f"{MAIN} line 8: syntax error"}),
        (
            MAIN,
            "@include /etc/more",
            {
                "ACC-021": "visudo: /etc/more: No such file or directory",
                "ACC-022": f"{MAIN} line 8 says '@include /etc/more'",
            },
        ),
        (
            f"{FOLDER}/bob",
            "bob ALL=(ALL) NOPASSWD:ALL",
            {"ACC-029": f"{FOLDER}/bob line 1 grants something to bob: bob ALL=(ALL) NOPASSWD:ALL"},
        ),
    ],
)
def test_what_others_write(sudo_host, judged, path, text, drifts):
    append(sudo_host, path, f"{text}\n")
    found = differing(judged(sudo_host))
    assert found.keys() == drifts.keys()
    for identifier, reason in drifts.items():
        assert reason in found[identifier].reason


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("root ALL=(ALL) NOPASSWD:ALL", True),
        ("ann ALL=(ALL) NOPASSWD:ALL", True),
        ("%sudo ALL=(ALL) NOPASSWD:ALL", False),
        ("%wheel ALL=(ALL) ALL", False),
        ("nagios ALL=(ALL) NOPASSWD:/bin/check", True),
        ("User_Alias OPS = ann, bob\nOPS ALL=(ALL) NOPASSWD:ALL", False),
        ("User_Alias OPS = ann\nOPS ALL=(ALL) NOPASSWD:ALL", True),
        ("ALL, !bob ALL=(ALL) NOPASSWD:ALL", False),
        ("#1001 ALL=(ALL) ALL", False),
    ],
)
def test_whom_nobody_declared(sudo_host, judged, text, allowed):
    append(sudo_host, f"{FOLDER}/aaa", f"{text}\n")
    found = differing(judged(sudo_host, sudo_grants=["nagios"]))
    assert set(found) == (set() if allowed else {"ACC-029"})


def test_a_grant_without_password_is_too_much_where_a_password_is_declared(sudo_host, judged):
    append(sudo_host, f"{FOLDER}/ann", "ann ALL=(ALL) NOPASSWD:ALL\n")
    assert "ACC-029" in differing(judged(sudo_host, nopasswd=False))


def test_a_grant_to_an_account_of_images_stays_with_the_account(sudo_host, judged, waiver):
    append(sudo_host, f"{FOLDER}/aaa", "debian ALL=(ALL) NOPASSWD:ALL\n")
    it = judged(sudo_host, waivers={"ACC-040": waiver()})
    assert differing(it)["ACC-029"].remedy == "manual"
    sudo.fix(sudo_host, it, ["ACC-029"])
    assert sudo_host.read(f"{FOLDER}/aaa") == "debian ALL=(ALL) NOPASSWD:ALL\n"


@pytest.mark.parametrize(
    ("text", "settings_", "remedy"),
    [
        ("bob ALL=(ALL) ALL", {}, "manual"),
        ("bob ALL=(ALL) ALL", {"remove": ["sudoers"]}, ""),
        ("debian ALL=(ALL) NOPASSWD:ALL", {}, ""),
        ("bob, ann ALL=(ALL) ALL", {"remove": ["sudoers"]}, "manual"),
    ],
)
def test_who_takes_a_grant_away(sudo_host, judged, text, settings_, remedy):
    append(sudo_host, f"{FOLDER}/aaa", f"{text}\n")
    assert differing(judged(sudo_host, **settings_))["ACC-029"].remedy == remedy


def test_sudo_is_not_installed(host, judged):
    found = differing(judged(host))
    assert {look.reason for i, look in found.items() if i != "ACC-004"} == {"sudo is not installed"}
    assert found["ACC-004"].problem == "skipped"
    with pytest.raises(Refused, match="sudo is not installed"):
        sudo.fix(host, judged(host), ["ACC-020"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Ran(127, "", "/usr/bin/cvtsudoers is not installed"), "cvtsudoers is not installed"),
        (Ran(0, "[", ""), "what cvtsudoers says is not understood"),
    ],
)
def test_a_policy_that_cannot_be_read_is_an_error(sudo_host, judged, answer, reason):
    sudo_host.answers[("/usr/bin/cvtsudoers",)] = answer
    found = differing(judged(sudo_host))
    assert set(found) == {"ACC-012", "ACC-022", *(f"ACC-02{n}" for n in range(3, 10))}
    assert {look.problem for look in found.values()} == {"error"}
    assert reason in found["ACC-029"].reason


def test_an_include_that_only_visudo_sees_is_an_error(sudo_host, judged, monkeypatch):
    plain = sudo_host.run

    def run(*line: str, **kwargs) -> Ran:
        ran = plain(*line, **kwargs)
        more = "/etc/hidden: parsed OK\n" if line[0] == VISUDO else ""
        return Ran(ran.status, ran.out + more, ran.err)

    monkeypatch.setattr(sudo_host, "run", run)
    assert "sudo reads /etc/hidden" in differing(judged(sudo_host))["ACC-022"].reason


@pytest.mark.parametrize(
    ("path", "mode", "owner", "drifts"),
    [
        (MAIN, 0o444, "root", {"ACC-021"}),
        (MAIN, 0o640, "root", set()),
        (f"{FOLDER}/README", 0o440, "ann", {"ACC-021"}),
        (f"{FOLDER}/README", 0o460, "root", {"ACC-021"}),
        (SETTINGS, 0o444, "root", {"ACC-020"}),
        (SETTINGS, 0o442, "root", {"ACC-020", "ACC-024", "ACC-026"}),
    ],
)
def test_who_can_write(sudo_host, judged, path, mode, owner, drifts):
    sudo_host.put(path, sudo_host.read(path), mode, owner)
    assert set(differing(judged(sudo_host))) == drifts


def test_a_folder_that_others_can_write_in_is_passed_over(sudo_host, judged):
    sudo_host.path(FOLDER).chmod(0o777)
    found = differing(judged(sudo_host))
    assert set(found) == {"ACC-012", "ACC-020", "ACC-021", "ACC-024", "ACC-026"}


def test_links_and_plugins_are_other_sources(sudo_host, judged):
    sudo_host.put("/etc/elsewhere", "", 0o440)
    sudo_host.path(f"{FOLDER}/linked").symlink_to(sudo_host.path("/etc/elsewhere"))
    plugins = "# Plugin x y\nPlugin sudoers_policy sudoers.so\nPlugin other other.so\n"
    sudo_host.put("/etc/sudo.conf", plugins)
    assert differing(judged(sudo_host))["ACC-022"].actual == [
        "/etc/sudo.conf line 3 says 'Plugin other other.so'",
        f"{FOLDER}/linked is a link to elsewhere",
    ]


def test_su_is_left_to_administrators(sudo_host, judged):
    sudo_host.su = "root:root 4755"
    assert differing(judged(sudo_host))["ACC-004"].actual["su"] == "root:root 4755"
    sudo.fix(sudo_host, judged(sudo_host), ["ACC-004"])
    command = "dpkg-statoverride --force-statoverride-add --update --add root sudo 4750 /usr/bin/su"
    assert sudo_host.ran[-1] == tuple(command.split())
    with pytest.raises(Refused, match="administrators_group: there is no group wheel"):
        sudo.fix(sudo_host, judged(sudo_host, administrators_group="wheel"), ["ACC-004"])


# What is changed ---------------------------------------------------------------------------------


def heal(host, it) -> None:
    sudo.fix(host, it, [i for i, look in differing(it).items() if look.remedy != "manual"])


def test_a_fresh_host_gets_the_files(sudo_host, judged):
    for path in (SETTINGS, ADMINISTRATORS, LOGROTATE):
        sudo_host.remove(path)
    sudo_host.put(MAIN, STOCK.replace("@includedir /etc/sudoers.d\n", ""), 0o440)
    heal(sudo_host, judged(sudo_host))
    assert differing(judged(sudo_host)) == {}
    assert sudo_host.read(MAIN) == STOCK
    assert sudo_host.attributes(SETTINGS).access == "root:root 0440"


@pytest.mark.parametrize(
    ("path", "text", "left"),
    [
        (MAIN, "Defaults !use_pty", f"{DISABLED}Defaults !use_pty"),
        (f"{FOLDER}/zzz", "Defaults log_input", f"{DISABLED}Defaults log_input"),
        (MAIN, "Defaults:bob \\\n  rootpw", f"{DISABLED}Defaults:bob \\\n{DISABLED}  rootpw"),
        (MAIN, "@include /etc/more", f"{DISABLED}@include /etc/more"),
        (f"{FOLDER}/zzz", f"{BROKEN}", f"{DISABLED}{BROKEN}"),
        (MAIN, "bob ALL=(ALL) ALL", f"{DISABLED}bob ALL=(ALL) ALL"),
        (
            f"{FOLDER}/zzz",
            "nagios ALL=(www) /bin/ls\nbob ALL=(ALL) ALL",
            f"nagios ALL=(www) /bin/ls\n{DISABLED}bob ALL=(ALL) ALL",
        ),
    ],
)
def test_lines_of_others_become_remarks_and_come_back(sudo_host, judged, path, text, left):
    before = sudo_host.read(path) or ""
    append(sudo_host, path, f"{text}\n")
    declared = {"remove": ["sudoers"], "sudo_grants": ["nagios"]}
    heal(sudo_host, judged(sudo_host, **declared))
    assert differing(judged(sudo_host, **declared)) == {}
    assert sudo_host.read(path) == f"{before}{left}\n"
    assert path in sudo.leftovers(sudo_host)
    sudo.clean(sudo_host)
    accepted = BROKEN not in text and "include" not in text
    assert sudo_host.read(path) == before + (text if accepted else f"# {text}") + "\n"


def test_an_include_of_a_strange_file_goes_once_somebody_keeps_a_way_in(
    sudo_host, judged, monkeypatch
):
    sudo_host.put("/etc/more", "# nothing\n", 0o440)
    append(sudo_host, MAIN, "@include /etc/more\n")
    with pytest.raises(Refused, match=r"sudo goes on to read /etc/sudoers line .*, for no account"):
        sudo.fix(sudo_host, judged(sudo_host), ["ACC-022"])
    assert "\n@include /etc/more" in sudo_host.read(MAIN)
    monkeypatch.setattr("rocksalt.accounts.sudo.enforce._no_way_in", lambda host, it: "")
    sudo.fix(sudo_host, judged(sudo_host), ["ACC-022"])
    assert f"\n{DISABLED}@include /etc/more" in sudo_host.read(MAIN)


def test_a_file_of_nothing_but_strangers_goes_and_comes_back(sudo_host, judged):
    path = f"{FOLDER}/bob"
    sudo_host.put(path, "# Bob\nbob ALL=(ALL) ALL\n", 0o440)
    heal(sudo_host, judged(sudo_host, remove=["sudoers"]))
    assert sudo_host.read(path) is None
    assert path + ASIDE in sudo.leftovers(sudo_host)
    sudo.clean(sudo_host)
    assert sudo_host.read(path) == "# Bob\nbob ALL=(ALL) ALL\n"


@pytest.mark.parametrize(("status", "prefix"), [(0, ""), (1, "# ")])
def test_a_plugin_comes_back_if_sudo_works_with_it(sudo_host, judged, status, prefix):
    sudo_host.put("/etc/sudo.conf", "Plugin other other.so\n")
    heal(sudo_host, judged(sudo_host))
    assert sudo_host.read("/etc/sudo.conf") == f"{DISABLED}Plugin other other.so\n"
    sudo_host.answers[("sudo",)] = Ran(status, "", "")
    sudo.clean(sudo_host)
    assert sudo_host.read("/etc/sudo.conf") == f"{prefix}Plugin other other.so\n"


def test_a_stranger_stays_where_nothing_says_that_he_goes(sudo_host, judged):
    append(sudo_host, f"{FOLDER}/bob", "bob ALL=(ALL) ALL\n")
    sudo.fix(sudo_host, judged(sudo_host), ["ACC-029"])
    assert sudo_host.read(f"{FOLDER}/bob") == "bob ALL=(ALL) ALL\n"


def test_what_others_could_have_written_does_not_begin_to_count(sudo_host, judged):
    sudo_host.put(f"{FOLDER}/bob", "nagios ALL=(ALL) ALL\n", 0o446)
    sudo_host.put(MAIN, STOCK, 0o446)
    heal(sudo_host, judged(sudo_host, sudo_grants=["nagios"]))
    assert sudo_host.read(f"{FOLDER}/bob{ASIDE}") == "nagios ALL=(ALL) ALL\n"
    assert sudo_host.attributes(MAIN).mode == "0440"


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("ACC-028", "%ops ALL=(ALL) LOG_INPUT:ALL"),
        ("ACC-028", "ann, root ALL=(ALL) LOG_INPUT:ALL"),
        ("ACC-012", "%sudo ALL=(ALL) ALL"),
        ("ACC-012", "ann ALL=(ALL) NOPASSWD:!/bin/su"),
        ("ACC-023", "Defaults:bob !use_pty, !authenticate"),
    ],
)
def test_lines_that_let_somebody_become_root_are_left_to_a_person(
    sudo_host, judged, identifier, text
):
    append(sudo_host, MAIN, f"{text}\n")
    it = judged(sudo_host, sudo_grants=["ops"])
    seen = differing(it)[identifier]
    assert (seen.remedy, "so a person decides" in seen.reason) == ("manual", True)
    sudo.fix(sudo_host, it, [i for i in sudo.CHECKS if i not in ("ACC-004", "ACC-027", "ACC-029")])
    assert sudo_host.read(MAIN) == f"{STOCK}{text}\n"


def test_a_tag_before_our_line_of_an_administrator_has_no_effect(sudo_host, judged):
    append(sudo_host, f"{FOLDER}/ann", "ann ALL=(ALL) NOPASSWD:LOG_INPUT:ALL\n")
    assert differing(judged(sudo_host)) == {}
    sudo_host.remove(ADMINISTRATORS)
    found = differing(judged(sudo_host))
    assert set(found) == {"ACC-012", "ACC-028"}
    heal(sudo_host, judged(sudo_host))
    assert differing(judged(sudo_host)) == {}


def test_a_line_of_several_defaults_goes_once_nobody_is_locked_out(sudo_host, judged):
    append(sudo_host, MAIN, "Defaults:bob !use_pty, !authenticate\n")
    sudo.fix(sudo_host, judged(sudo_host), ["ACC-023", "ACC-027"])
    assert differing(judged(sudo_host)) == {}


def test_what_decides_on_passwords_is_done_only_under_guard(judged, host):
    guarded = {c.id for c in judged(host).family.controls.values() if c.guarded}
    assert guarded & set(sudo.CHECKS) == {"ACC-004", "ACC-027", "ACC-029"}


# Our own file of grants --------------------------------------------------------------------------

UNGUARDED = [i for i in sudo.CHECKS if i not in ("ACC-004", "ACC-027", "ACC-029")]
FORMER = "eve ALL=(ALL:ALL) NOPASSWD: ALL"


def rows(host) -> list[str]:
    return (host.read(ADMINISTRATORS) or "").splitlines()[1:]


@pytest.fixture
def way_in(monkeypatch):
    """Whether administrators get in; the accounts that count are asked for one by one."""
    asked = SimpleNamespace(reason="", plans=[])

    def administrator(_, __, plan, as_it_runs):
        asked.plans.append(plan)
        return Seen(not asked.reason, asked.reason)

    monkeypatch.setattr("rocksalt.sshd.checks.Sshd.administrator", administrator)
    return asked


def test_a_former_administrator_who_is_the_only_way_in_stays(sudo_host, judged, way_in):
    append(sudo_host, ADMINISTRATORS, f"{FORMER}\n")
    before = sudo_host.read(ADMINISTRATORS)
    way_in.reason = "nobody could log in by key and become root"
    refusal = f"{ADMINISTRATORS} goes on to grant what it does to eve, for {way_in.reason}"
    with pytest.raises(Refused, match=refusal):
        sudo.fix(sudo_host, judged(sudo_host), ["ACC-029"])
    assert sudo_host.read(ADMINISTRATORS) == before
    assert way_in.plans[0].stays("ann") and not way_in.plans[0].stays("eve")


def test_a_former_administrator_stays_until_somebody_keeps_a_way_in(sudo_host, judged, way_in):
    append(sudo_host, ADMINISTRATORS, f"{FORMER}\n")
    (seen,) = differing(judged(sudo_host)).values()
    place = f"{ADMINISTRATORS} line 3"
    assert seen.reason == f"{place} grants something to eve, an administrator once: {FORMER}"
    assert seen.remedy == ""
    sudo.fix(sudo_host, judged(sudo_host), UNGUARDED)
    assert rows(sudo_host) == [FORMER, "ann ALL=(ALL:ALL) NOPASSWD: ALL"]
    sudo.fix(sudo_host, judged(sudo_host), ["ACC-029"])
    assert rows(sudo_host) == ["ann ALL=(ALL:ALL) NOPASSWD: ALL"]
    assert differing(judged(sudo_host)) == {}


def test_without_administrators_their_file_stays(sudo_host, judged):
    before = sudo_host.read(ADMINISTRATORS)
    it = judged(sudo_host, administrators={})
    assert set(differing(it)) == {"ACC-029"}
    assert ADMINISTRATORS not in sudo.render(it)
    sudo.fix(sudo_host, it, UNGUARDED)
    assert sudo_host.read(ADMINISTRATORS) == before


@pytest.mark.parametrize("file", [ADMINISTRATORS, f"{FOLDER}/90-cloud-init-users"])
def test_nobody_is_asked_for_a_password_that_does_not_exist(sudo_host, judged, file):
    sudo_host.remove(ADMINISTRATORS)
    free = "ann ALL=(ALL:ALL) NOPASSWD: ALL"
    append(sudo_host, file, f"# Written.\n{free}\n")
    sudo_host.put("/etc/shadow", "ann:*:20000:0:99999:7:::\n")
    sudo_host.remove(SETTINGS)
    with pytest.raises(Refused, match="sudo goes on to ask ann for no password"):
        sudo.fix(sudo_host, judged(sudo_host, nopasswd=False), UNGUARDED)
    assert rows(sudo_host) == [free]
    assert sudo_host.read(SETTINGS), "the rest is done"
    assert differing(judged(sudo_host, nopasswd=False))["ACC-012"].remedy == ""


def test_the_password_that_the_same_run_sets_counts(sudo_host, judged):
    sudo_host.put("/etc/shadow", "ann:*:20000:0:99999:7:::\n")
    it = judged(sudo_host, nopasswd=False)
    assert set(differing(it)) == {"ACC-012"}
    sudo_host.put("/etc/shadow", "ann:$y$j9T$salt$hash:20000:0:99999:7:::\n")
    sudo.fix(sudo_host, it, ["ACC-012"])
    assert rows(sudo_host) == ["ann ALL=(ALL:ALL) ALL"]
    assert differing(judged(sudo_host, nopasswd=False)) == {}


@pytest.mark.parametrize(
    "text", ["ann ALL=(www) NOPASSWD:ALL", "ann ALL=(ALL:ALL) NOPASSWD:!/bin/su"]
)
def test_other_lines_of_an_administrator_are_corrected(sudo_host, judged, text):
    append(sudo_host, ADMINISTRATORS, f"{text}\n")
    found = differing(judged(sudo_host))
    assert {i: seen.remedy for i, seen in found.items()} == {"ACC-012": ""}
    heal(sudo_host, judged(sudo_host))
    assert differing(judged(sudo_host)) == {}
    assert rows(sudo_host) == ["ann ALL=(ALL:ALL) NOPASSWD: ALL"]


def test_a_grant_of_others_does_not_stand_in_for_ours(sudo_host, judged):
    sudo_host.remove(ADMINISTRATORS)
    append(sudo_host, f"{FOLDER}/ann", "ann ALL=(ALL) NOPASSWD:ALL\n")
    found = differing(judged(sudo_host))
    assert set(found) == {"ACC-012"}
    assert f"but not as declared by {ADMINISTRATORS}" in found["ACC-012"].actual["ann"]
    heal(sudo_host, judged(sudo_host))
    assert differing(judged(sudo_host)) == {}


def test_defaults_in_the_file_of_grants_go(sudo_host, judged):
    append(sudo_host, ADMINISTRATORS, "Defaults:bob !authenticate\n")
    sudo.fix(sudo_host, judged(sudo_host), UNGUARDED)
    assert set(differing(judged(sudo_host))) == {"ACC-027"}
    heal(sudo_host, judged(sudo_host))
    assert differing(judged(sudo_host)) == {}
    assert DISABLED not in sudo_host.read(ADMINISTRATORS)


@pytest.mark.parametrize("administrators", [None, {}])
def test_what_others_wrote_into_the_file_of_grants_does_not_begin_to_count(
    sudo_host, judged, administrators
):
    append(sudo_host, ADMINISTRATORS, f"{FORMER}\n")
    sudo_host.path(ADMINISTRATORS).chmod(0o446)
    declared = {} if administrators is None else {"administrators": administrators}
    sudo.fix(sudo_host, judged(sudo_host, **declared), UNGUARDED)
    assert FORMER not in (sudo_host.read(ADMINISTRATORS) or "")
    assert set(differing(judged(sudo_host, **declared))) == set()


def test_what_sudo_would_not_accept_is_undone(sudo_host, judged, monkeypatch):
    """visudo finds a fault in the whole as soon as our file is there."""
    sudo_host.remove(SETTINGS)
    it, plain = judged(sudo_host), sudo_host.run

    def run(*line: str, **kwargs) -> Ran:
        if line[0] == VISUDO and line[-1].endswith(MAIN) and sudo_host.read(SETTINGS):
            return Ran(1, "", f"{sudo_host.path(SETTINGS)}:1:1: syntax error")
        return plain(*line, **kwargs)

    monkeypatch.setattr(sudo_host, "run", run)
    refusal = (
        f"sudo would not accept {SETTINGS} line 1: syntax error; the old configuration is back"
    )
    with pytest.raises(Refused, match=refusal):
        sudo.fix(sudo_host, it, ["ACC-020"])
    assert sudo_host.read(SETTINGS) is None


def test_a_candidate_that_sudo_would_not_accept_is_not_written(sudo_host, judged, monkeypatch):
    monkeypatch.setattr("rocksalt.accounts.sudo.checks.INCLUDE", BROKEN)
    text = STOCK.replace("@includedir /etc/sudoers.d\n", "")
    sudo_host.put(MAIN, text, 0o440)
    with pytest.raises(Refused, match=f"sudo would not accept {MAIN} line 7: syntax error"):
        sudo.fix(sudo_host, judged(sudo_host), ["ACC-020"])
    assert sudo_host.read(MAIN) == text


def test_faults_of_others_do_not_hinder(sudo_host, judged, waiver):
    append(sudo_host, f"{FOLDER}/zzz", f"{BROKEN}\n")
    sudo_host.remove(SETTINGS)
    it = judged(sudo_host, waivers={"ACC-021": waiver()})
    sudo.fix(sudo_host, it, ["ACC-020"])
    assert sudo_host.read(SETTINGS) == sudo.render(it)[SETTINGS]


def test_administrators_keep_their_grants_when_all_else_goes(sudo_host):
    found = sudo.leftovers(sudo_host)
    assert found == [SETTINGS, LOGROTATE, "the override of dpkg for /usr/bin/su"]
    sudo.clean(sudo_host)
    assert sudo_host.read(ADMINISTRATORS) is not None
    assert sudo_host.read(SETTINGS) is None
    assert ("dpkg-statoverride", "--remove", "/usr/bin/su") in sudo_host.ran
    assert sudo_host.path("/usr/bin/su").stat().st_mode & 0o7777 == 0o4755
