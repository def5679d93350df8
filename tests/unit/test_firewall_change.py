"""rocksalt.firewall.change: a change that nobody confirms is undone, whatever happens meanwhile."""

from __future__ import annotations

import os
import subprocess
import types

import netfilter
import pytest

from rocksalt.errors import Refused
from rocksalt.firewall import INPUT, change, files, tables
from rocksalt.host import Ran

SSHD = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 30 1\n"
OLD = "   1: 0B004F0A:0016 01004F0A:C582 01 00000000:00000000 00:00000000 00000000 0 0 31 1\n"
NEW = OLD.replace("C582", "C583")
STRANGER = NEW.replace("01004F0A", "010050CB")
BEFORE = tables.Table(
    {"INPUT": "ACCEPT"},
    {"INPUT": ("-j f2b-sshd",), "f2b-sshd": ("-s 192.0.2.7/32 -j DROP",), "mine": ()},
)
GOAL = tables.Goal({INPUT: ("-j ACCEPT",)}, ("INPUT",), {"INPUT": "DROP"}, ("fail2ban",))
EMERGENCY = {version: {INPUT: ["-j DROP"]} for version in (4, 6)}
MASTERS = [("10.79.0.1", 4505), ("10.79.0.1", 4506)]
UNIT = "rocksalt-firewall-rollback"
NOBODY = "nobody from 10.79.0.0/24 opened a new connection to port 22 within 60 seconds"
GONE_BACK = "the old rules are back"
LEFT = "going back cannot be started now (no bus), it is left to the clock"


class Machine:
    """A host with iptables, systemd, sockets and a clock of its own, on which things happen."""

    def __init__(self, host, monkeypatch):
        self.host = host
        self.live = {version: netfilter.Netfilter(BEFORE) for version in (4, 6)}
        self.timer = False
        self.seconds = 0.0
        self.then = {}  # what happens before a command that begins so
        self.later = lambda: None  # what happens while one waits
        self.unreachable = set()
        self.events = []
        clock = types.SimpleNamespace(
            time=lambda: 1e9 + self.seconds,
            monotonic=lambda: self.seconds,
            sleep=self.sleep,
            strftime=lambda *_: "12:34:56",
            localtime=lambda _: None,
        )
        monkeypatch.setattr(change, "time", clock)
        monkeypatch.setattr(change, "_EVERY", 1.0)
        monkeypatch.setattr(change.socket, "create_connection", self.connect)
        monkeypatch.setattr(host, "run", self.run)
        self.connections(OLD)

    def connections(self, *lines):
        self.host.put("/proc/net/tcp", "  sl  local_address\n" + SSHD + "".join(lines))

    def connect(self, address, timeout):
        if address in self.unreachable:
            raise OSError("timed out")
        return Connection()

    def sleep(self, seconds):
        self.seconds += seconds
        self.later()

    def run(self, *command, timeout=30.0, text=""):
        self.host.ran.append(command)
        for beginning, happens in self.then.items():
            if " ".join(command).startswith(beginning):
                ran = happens()
                if ran:
                    return ran
        ran = netfilter.answer(self.live, command, text)
        return ran or getattr(self, command[0].replace("-", "_"))(*command[1:])

    def wall(self, text):
        self.told = text
        return Ran(0, "", "")

    def systemd_run(self, *_):
        self.timer = True
        return Ran(0, "", "")

    def systemctl(self, verb, *units):
        if verb == "is-active":
            return Ran(0 if self.timer else 3, f"{'active' if self.timer else 'inactive'}\n", "")
        if verb == "start":
            self.go_back()
        if verb == "stop":
            self.timer = False
        return Ran(0, "", "")

    def go_back(self):
        """What the script does."""
        for version, table in self.live.items():
            table.restore(self.host.read(f"{change.RUN}/back.v{version}") or "")
        self.host.write(files.ROLLED_BACK, self.host.read(f"{change.RUN}/why"))
        self.host.remove(change.ARMED)
        self.timer = False

    def make(self, seconds=60, plans=None, **other):
        plans = plans or {v: tables.plan(self.live[v].table, GOAL) for v in (4, 6)}
        call = other.pop("call", self.events.append)
        witness = change.Witness(
            **{"masters": MASTERS, "ssh_ports": [22], "management": ["10.79.0.0/24"], **other},
            call=call,
        )
        change.make(self.host, plans, EMERGENCY, seconds, witness)

    def did(self, *beginning):
        return [command for command in self.host.ran if command[: len(beginning)] == beginning]

    @property
    def changed(self):
        return {version: INPUT in table.chains for version, table in self.live.items()}


class Connection:
    """One that the master accepts."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def close(self):
        return None

    def getsockname(self):
        return ("10.79.0.11", 40000)


@pytest.fixture
def machine(host, monkeypatch):
    return Machine(host, monkeypatch)


BOTH, NEITHER = {4: True, 6: True}, {4: False, 6: False}


def refused(machine, **other):
    with pytest.raises(Refused) as caught:
        machine.make(**other)
    return str(caught.value)


# A change that stays -----------------------------------------------------------------------------


def test_confirmed(machine):
    machine.later = lambda: machine.connections(OLD, NEW)
    machine.make()
    assert machine.changed == BOTH
    assert not machine.timer
    for name in ("armed.json", "back.v4", "back.v6"):
        assert machine.host.read(f"{change.RUN}/{name}") is None
    assert machine.host.read(files.ROLLED_BACK) is None
    (event,) = machine.events
    assert event == {"addresses": ["10.79.0.11"], "ports": [22], "until": 1e9 + 60}
    assert machine.seconds == 1


def test_the_way_back_is_there_before_the_first_rule_changes(machine):
    seen = []

    def look():
        assert machine.timer
        seen.append({n: machine.host.read(f"{change.RUN}/{n}") for n in ("armed.json", "rollback")})
        for version in (4, 6):
            back = machine.host.read(f"{change.RUN}/back.v{version}")
            trial = netfilter.Netfilter(BEFORE)
            plan = tables.plan(trial.table, GOAL)
            assert (trial.restore(plan.text).err, trial.restore(back).err) == ("", "")
            assert trial.policies["INPUT"] == "ACCEPT"
            before = machine.host.read(f"{change.RUN}/before.v{version}")
            assert before.splitlines() == [
                *(":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", "-A INPUT -j f2b-sshd")
            ]
            assert ":rocksalt-input" in machine.host.read(f"{change.RUN}/emergency.v{version}")

    machine.then["iptables-restore"] = look
    machine.later = lambda: machine.connections(OLD, NEW)
    machine.make(seconds=45)
    assert len(seen) == 1
    assert all(seen[0].values())
    assert machine.did("systemd-run") == [
        (
            *("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", "--on-active=45"),
            *("--timer-property=AccuracySec=100ms", "--service-type=oneshot"),
            *("/bin/sh", change.SCRIPT),
        )
    ]
    assert machine.host.ran.index(machine.did("systemd-run")[0]) < machine.host.ran.index(
        machine.did("iptables-restore")[0]
    )


def test_only_what_differs(machine):
    machine.later = lambda: machine.connections(OLD, NEW)
    machine.make(plans={4: tables.Plan(), 6: tables.plan(BEFORE, GOAL)})
    assert machine.changed == {4: False, 6: True}
    assert machine.did("iptables-restore") == []
    assert machine.host.read(f"{change.RUN}/before.v4") is None


@pytest.mark.parametrize(
    "witness",
    [
        {"ssh_ports": []},
        {"ssh_ports": [], "masters": []},
        {"masters": [], "call": None},
    ],
)
def test_other_witnesses(machine, witness):
    """Masters alone, nobody where nothing listens, and people where there is no master."""
    machine.later = lambda: machine.connections(OLD, NEW)
    machine.make(**witness)
    assert machine.changed == BOTH
    assert machine.events == []


def test_people_are_told_where_there_is_no_master(machine):
    machine.later = lambda: machine.connections(OLD, NEW)
    machine.make(masters=[], call=None)
    assert machine.told.startswith("rocksalt: log in anew over ssh within 60 seconds")


def test_no_master_can_be_reached(machine):
    machine.unreachable = set(MASTERS)
    with pytest.raises(Refused, match=r"^the master 10\.79\.0\.1:4505 cannot be reached"):
        machine.make()
    assert machine.changed == NEITHER and not machine.timer


def test_confirmed_by_hand_meanwhile(machine):
    machine.later = lambda: change.disarm(machine.host)
    machine.make()
    assert machine.changed == BOTH


# A change that is undone -------------------------------------------------------------------------


def cut(machine, address=MASTERS[0]):
    """The new rules cut off a master."""
    machine.then["ip6tables-restore"] = lambda: machine.unreachable.add(address)


CUT = "a new connection to the master 10.79.0.1:{} fails: timed out"


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda m: None, NOBODY),
        (lambda m: setattr(m, "later", lambda: m.connections(OLD, STRANGER)), NOBODY),
        (
            lambda m: setattr(m, "later", lambda: m.connections(OLD, NEW.replace(" 01 ", " 03 "))),
            NOBODY,
        ),
        (
            lambda m: m.then.update({"ip6tables-restore": lambda: m.connections(OLD, NEW)}),
            NOBODY,
        ),
        (cut, CUT.format(4505)),
        (lambda m: cut(m, MASTERS[1]), CUT.format(4506)),
        (
            lambda m: m.then.update({"ip6tables-restore": lambda: Ran(2, "", "line 2 failed: no")}),
            "iptables does not accept the rules: line 2 failed: no about ':rocksalt-bans - [0:0]'",
        ),
    ],
)
def test_undone(machine, happens, why):
    happens(machine)
    assert refused(machine) == f"{why}; {GONE_BACK}"
    assert machine.changed == NEITHER
    assert machine.live[4].policies["INPUT"] == machine.live[6].policies["INPUT"] == "ACCEPT"
    assert machine.host.read(files.ROLLED_BACK) == f"a change of the firewall was undone: {why}\n"
    assert change.pending(machine.host) is None


def test_nobody_is_waited_for_longer_than_the_clock(machine):
    refused(machine, seconds=30)
    assert machine.seconds == 28


def test_the_clock_was_faster(machine):
    machine.later = machine.go_back
    assert refused(machine) == f"it was not confirmed in time; {GONE_BACK}"
    assert machine.changed == NEITHER
    assert machine.did("systemctl", "start") == []


def test_the_clock_was_faster_than_the_last_step(machine):
    """Nothing may be written to disk then."""
    machine.later = lambda: machine.connections(OLD, NEW)
    machine.then["systemctl stop"] = machine.go_back
    assert refused(machine) == "it was not confirmed in time"
    assert machine.changed == NEITHER


def test_the_way_back_cannot_be_stopped(machine):
    machine.later = lambda: machine.connections(OLD, NEW)
    machine.then["systemctl stop"] = lambda: Ran(1, "", "no\nbus")
    assert refused(machine) == "the way back cannot be stopped: no bus"
    assert machine.timer
    assert change.pending(machine.host)


def test_going_back_cannot_be_started(machine):
    """Then the clock has to go on."""
    machine.then["systemctl start"] = lambda: Ran(1, "", "no\nbus")
    assert refused(machine) == f"{NOBODY}; {LEFT}"
    assert machine.timer
    machine.go_back()
    assert machine.changed == NEITHER


def test_going_back_fails(machine):
    def fail():
        why = "the old IPv4 rules cannot be loaded: only administrators are let in"
        machine.host.write(files.ROLLED_BACK, why)
        return Ran(0, "", "")

    machine.then["systemctl start"] = fail
    assert refused(machine) == f"{NOBODY}; going back failed, only administrators are let in"


def test_what_cannot_be_undone_is_not_done(machine):
    machine.then["systemd-run"] = lambda: Ran(1, "", "Failed to connect to bus\n")
    assert refused(machine) == (
        "nothing was changed, for it could not be undone: Failed to connect to bus"
    )
    assert machine.changed == NEITHER
    assert machine.did("iptables-restore") == []
    assert change.pending(machine.host) is None


def test_an_error_that_nobody_thought_of_leaves_the_clock_running(machine):
    def fail(_):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        machine.make(call=fail)
    assert machine.timer
    machine.go_back()
    assert machine.changed == NEITHER


# Between runs ------------------------------------------------------------------------------------


def test_one_run_at_a_time(host):
    problem = r"^another run changes the firewall at this moment$"
    with change.lock(host), pytest.raises(Refused, match=problem), change.lock(host):
        pass
    with change.lock(host):
        pass


def armed(machine):
    plans = {v: tables.plan(machine.live[v].table, GOAL) for v in (4, 6)}
    change._arm(machine.host, plans, EMERGENCY, 60, [22])


def test_pending(machine):
    assert change.pending(machine.host) is None
    change.refuse_while_pending(machine.host)
    armed(machine)
    assert change.pending(machine.host) == {
        "until": 1e9 + 60,
        "known": [["0.0.0.0", 22, "0.0.0.0", 0, "LISTEN"],
                  ["10.79.0.11", 22, "10.79.0.1", 50562, "ESTABLISHED"]],
    }  # fmt: skip
    with pytest.raises(Refused) as caught:
        change.refuse_while_pending(machine.host)
    assert str(caught.value) == (
        "a change of the firewall awaits confirmation until 12:34:56: log in anew from a "
        "management address and run firewall.confirm, or wait"
    )
    machine.timer = False
    assert change.pending(machine.host) is None, "a reboot took the clock"


WITNESS = change.Witness([], [22], ["10.79.0.0/24"])


def test_confirm(machine):
    armed(machine)
    for line in (OLD, STRANGER):
        machine.connections(OLD, line)
        with pytest.raises(Refused) as caught:
            change.confirm(machine.host, WITNESS)
        assert str(caught.value) == (
            "every connection from management is older than the change: log in anew, then confirm"
        )
        assert machine.timer
    machine.connections(OLD, NEW)
    said = change.confirm(machine.host, WITNESS)
    assert said == "confirmed by the new connection from 10.79.0.1"
    assert not machine.timer


def test_nothing_to_confirm(machine):
    with pytest.raises(Refused, match=r"^no change of the firewall awaits confirmation$"):
        change.confirm(machine.host, WITNESS)


def test_a_change_whose_clock_somebody_stopped_is_undone_first(machine, monkeypatch):
    armed(machine)
    machine.timer = False
    monkeypatch.setattr(
        machine, "/bin/sh", lambda path: machine.go_back() or Ran(0, path, ""), raising=False
    )
    change.refuse_while_pending(machine.host)
    assert machine.host.ran[-1] == ("/bin/sh", str(machine.host.path(change.SCRIPT)))
    assert machine.host.read(change.ARMED) is None
    assert machine.host.read(files.ROLLED_BACK) is not None


def test_confirmed_too_late(machine):
    armed(machine)
    machine.connections(OLD, NEW)
    machine.then["systemctl stop"] = machine.go_back
    with pytest.raises(Refused, match=r"^it was not confirmed in time$"):
        change.confirm(machine.host, WITNESS)


# The script --------------------------------------------------------------------------------------

FAKE = """#!/bin/sh
echo "${{0##*/}} $*" >>{folder}/log
case $0 in
*-save) cat {folder}/live ;;
*-restore) cat >{folder}/given; if grep -qxFf {folder}/fails {folder}/given; then exit 1; fi ;;
*iptables) ! grep -q "^${{0##*/}} $3" {folder}/fails ;;
esac
"""
SAVED = """\
# Warning: iptables-legacy tables present, use iptables-legacy-save to see them
# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:INPUT ACCEPT [12:3456]
:f2b-sshd - [0:0]
:rocksalt-bans - [0:0]
:rocksalt-input - [0:0]
-A INPUT -j rocksalt-input
-A INPUT -p tcp -j f2b-sshd
-A f2b-sshd -s 192.0.2.7/32 -j DROP
-A rocksalt-input -j DROP
COMMIT
"""


@pytest.fixture
def script(host, tmp_path, monkeypatch):
    """Runs the script with programs that note what they are asked; the lines they noted."""
    monkeypatch.setattr(change, "RUN", str(tmp_path))
    monkeypatch.setattr(change, "ARMED", str(tmp_path / "armed.json"))
    monkeypatch.setattr(files, "ROLLED_BACK", str(tmp_path / "lib/rolled-back"))
    programs = tmp_path / "bin"
    programs.mkdir()
    names = ("iptables-save", "iptables-restore", "iptables", "logger", "systemctl")
    for name in (*names, *(f"ip6{name[2:]}" for name in names[:3])):
        (programs / name).write_text(FAKE.format(folder=tmp_path))
        (programs / name).chmod(0o755)
    for name in ("armed.json", "why"):
        (tmp_path / name).write_text("nobody came\n")
    host.answer("iptables-save -t filter", SAVED)
    before = change._shape(host, 4)
    for version in (4, 6):
        (tmp_path / f"back.v{version}").write_text(f"back {version}\n")
        (tmp_path / f"emergency.v{version}").write_text(f"emergency {version}\n")
        (tmp_path / f"before.v{version}").write_text(before)

    def run(live=SAVED, fails=""):
        (tmp_path / "live").write_text(live)
        (tmp_path / "fails").write_text(fails or "nothing\n")
        (tmp_path / "rollback").write_text(change._script())
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        command = ["/bin/sh", str(tmp_path / "rollback")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        lines = (tmp_path / "log").read_text().replace(" --wait 10", "").splitlines()
        assert lines.pop() == "systemctl --no-block stop rocksalt-firewall-rollback.timer"
        return [line for line in lines if "-save" not in line]

    run.folder = tmp_path
    return run


RESTORED = "-restore --noflush"
LOGGED = "logger --priority auth.crit --tag rocksalt-firewall nobody came"
CHANGED = [
    SAVED.replace(":INPUT ACCEPT", ":INPUT DROP"),
    SAVED.replace("-A INPUT -p tcp -j f2b-sshd\n", ""),
    SAVED.replace("-A rocksalt-input -j DROP", "-A rocksalt-input -j ACCEPT"),
    SAVED.replace(":rocksalt-input - [0:0]\n", ""),
    "",
]


def test_the_script_is_a_good_one(script):
    script()
    for command in (["sh", "-n"], ["shellcheck"]):
        path = str(script.folder / "rollback")
        ran = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "live",
    [
        SAVED,
        SAVED.replace("[12:3456]", "[99:9999]"),
        SAVED.replace("-A f2b-sshd -s 192.0.2.7/32 -j DROP\n", ""),
        SAVED.replace("-A f2b", "-A rocksalt-bans -j f2b-sshd\n-A f2b"),
    ],
)
def test_the_rules_never_changed(script, live):
    """Those of others may have, and packets were counted."""
    assert script(live) == [LOGGED]
    assert (script.folder / "lib/rolled-back").read_text() == "nobody came\n"
    for name in ("armed.json", "back.v4", "back.v6"):
        assert not (script.folder / name).exists()


@pytest.mark.parametrize("live", CHANGED)
def test_the_rules_changed(script, live):
    assert script(live) == [f"iptables{RESTORED}", f"ip6tables{RESTORED}", LOGGED]
    assert (script.folder / "given").read_text() == "back 6\n"


def test_only_one_version_was_to_change(script):
    (script.folder / "back.v4").unlink()
    assert script(CHANGED[0]) == [f"ip6tables{RESTORED}", LOGGED]


def test_the_old_rules_cannot_be_loaded(script):
    """Then administrators get in, though somebody may have flushed what leads to our rules."""
    found = script(CHANGED[0], "back 4\niptables --check\n")
    sentence = "the old IPv4 rules cannot be loaded: only administrators are let in"
    assert found == [
        *(f"iptables{RESTORED}", f"iptables{RESTORED}"),
        *("iptables --check INPUT --jump rocksalt-input",),
        *("iptables --insert INPUT 1 --jump rocksalt-input",),
        *("iptables --check OUTPUT --jump rocksalt-output",),
        *("iptables --insert OUTPUT 1 --jump rocksalt-output",),
        *(f"ip6tables{RESTORED}", LOGGED, sentence),
    ]
    assert (script.folder / "lib/rolled-back").read_text() == f"nobody came\n{sentence}\n"
