"""The daemons that look at this host: one at logs, and one that would look at files."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import conf
from .common import CONF, LOCK, QUEUE, RUN, Program, Refused, connected

_FORMATS = {
    *("syslog", "generic", "snort-full", "snort-fast", "apache", "iis", "squid", "nmapg", "audit"),
    *("mysql_log", "ossecalert", "mssql_log", "postgresql_log", "djb-multilog", "syslog-pipe"),
    *("command", "full_command", "journald", "modsec-audit", "multi-line_indented"),
}
_NO_JOURNAL = "journald not available on this version: 'all'."
_HOW = {
    *("check_all", "check_sum", "check_md5sum", "check_sha1sum", "check_sha256sum", "check_size"),
    *("check_owner", "check_group", "check_perm", "realtime", "report_changes"),
}
_SYSCHECK_YES_NO = {"scan_on_start", "disabled", "skip_nfs"}
_SYSCHECK_TEXT = {
    *("directories", "ignore", "nodiff", "scan_time", "scan_day", "auto_ignore", "prefilter_cmd"),
    "alert_new_files",
}
_ROOTCHECK_YES_NO = {"disabled", "scanall", "readall", "skip_nfs"} | {
    f"check_{what}"
    for what in ("dev", "files", "if", "pids", "ports", "sys", "trojans", "unixaudit")
}
_ROOTCHECK_TEXT = {
    *("rootkit_files", "rootkit_trojans", "base_directory", "system_audit", "ignore"),
}
_RUN_NOW = RUN / ".syscheck_run"


class Line:
    """The way to the daemon that speaks with the server."""

    def __init__(self, program: Program) -> None:
        found = connected(QUEUE)
        if found is None:
            raise Refused((1211, f"Unable to access queue: '{QUEUE}'. Giving up.."))
        self.program, self.socket = program, found

    def send(self, kind: str, place: str, text: str) -> None:
        """Sends an event; while no server answers, everybody waits."""
        if LOCK.exists():
            self.program.say("Process locked. Waiting for permission...", "WARN")
            while LOCK.exists():
                time.sleep(0.2)
            self.program.say("Lock free. Continuing...")
        try:
            self.socket.send(f"{kind}:{place}:{text}".encode(errors="replace"))
        except OSError:
            self.program.say("Error communicating with ossec-agentd.", "ERROR")


# Logs --------------------------------------------------------------------------------------------


def logcollector(arguments: Sequence[str]) -> int:
    """Reads logs; the exit code."""
    program = Program("ossec-logcollector", arguments)
    logs: list[tuple[str, str]] = []

    def test() -> None:
        sections = conf.read(program.conf, (conf.wrong(program.conf),))
        for section in sections:
            if section.name == "localfile":
                try:
                    logs.append(_log(section))
                except Refused as refused:
                    raise Refused(*refused.complaints, *[conf.wrong(program.conf)] * 2) from None

    def work() -> None:
        program.started()
        line = Line(program)
        _read_logs(program, line, logs)

    return program.run(test, work)


def _log(section: conf.Element) -> tuple[str, str]:
    """(where, format) of one log."""
    found = {element.name: element for element in section.children}
    for name in found:
        known = ("location", "command", "log_format", "frequency", "alias", "query")
        if name not in (*known, "only-future-events"):
            raise Refused(conf.invalid(name))
    where = found.get("location") or found.get("command")
    if where is None:
        raise Refused((1902, "Missing 'location' element."))
    if "log_format" not in found:
        raise Refused((1901, "Missing 'log_format' element."))
    kind = found["log_format"].text
    if kind not in _FORMATS and not kind.startswith("multi-line:"):
        raise Refused(conf.value(found["log_format"]))
    return where.text, kind


def _read_logs(program: Program, line: Line, logs: Sequence[tuple[str, str]]) -> None:
    """Sends what is added to them, for ever. Commands are taken and not run."""
    places: dict[str, tuple[int, int]] = {}
    for where, kind in logs:
        if kind == "journald":
            program.say(_NO_JOURNAL, "WARN")
        elif kind not in ("command", "full_command"):
            for path in sorted(glob.glob(where)) or [where]:
                if os.path.isfile(path):
                    program.say(f"Analyzing file: '{path}'.", "INFO", 1950)
                    places[path] = _end(path)
                else:
                    program.say(f"File not available, ignoring it: '{path}'.", "INFO", 1904)
    while True:
        for path, place in places.items():
            places[path], lines = _new_lines(path, place)
            for text in lines:
                line.send("1", path, text)
        time.sleep(0.3)


def _end(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_size


def _new_lines(path: str, place: tuple[int, int]) -> tuple[tuple[int, int], list[str]]:
    """What came since, also where the log began anew."""
    try:
        inode, size = _end(path)
    except OSError:
        return place, []
    begin = place[1] if inode == place[0] and size >= place[1] else 0
    if begin == size:
        return (inode, size), []
    with open(path, "rb") as file:
        file.seek(begin)
        data = file.read(size - begin)
    whole = data.rpartition(b"\n")[0]
    end = begin + len(whole) + 1 if whole else begin
    return (inode, end), whole.decode(errors="replace").splitlines()


# Files -------------------------------------------------------------------------------------------


def syscheckd(arguments: Sequence[str]) -> int:
    """Says when it begins and ends to look at files, and only counts them; the exit code."""
    program = Program("ossec-syscheckd", arguments)
    folders: list[str] = []
    frequency = 600

    def test() -> None:
        nonlocal frequency
        ends = [conf.wrong(program.conf)] * 2
        sections = conf.read(program.conf, (conf.wrong(program.conf),))
        try:
            for element in conf.within(sections, "syscheck"):
                _syscheck(element)
                frequency = int(element.text) if element.name == "frequency" else frequency
            for element in conf.within(conf.read(CONF), "rootcheck"):  # of the file in place
                _rootcheck(element)
        except Refused as refused:
            raise Refused(*refused.complaints, *ends) from None
        for path in _watched(program, sections):
            folders.append(path)

    def work() -> None:
        program.started()
        line = Line(program)
        time.sleep(1)  # OSSEC takes a minute
        _scan_now_and_then(program, line, folders, frequency)

    return program.run(test, work)


def _syscheck(element: conf.Element) -> None:
    if element.name == "frequency":
        conf.number(element)
    elif element.name in _SYSCHECK_YES_NO:
        conf.yes_or_no(element)
    elif element.name not in _SYSCHECK_TEXT:
        raise Refused(conf.invalid(element.name))
    elif element.name in ("ignore", "nodiff"):
        if {*element.attributes.items()} - {("type", "sregex")}:
            raise Refused((1703, f"Unknown attribute for {element.name}."))
    elif element.name == "directories":
        _how(element)


def _how(element: conf.Element) -> None:
    if not element.attributes:
        raise Refused((1701, f"No option given for directory: '{element.text}'."))
    for name, said in element.attributes.items():
        if name == "restrict":
            continue
        if name not in _HOW and name != "no_recurse":
            raise Refused((1703, f"Unknown attribute '{name}' for directory option."))
        if said not in (("yes",) if name == "no_recurse" else ("yes", "no")):
            raise Refused((1704, f"Invalid value '{said}' for directory option '{name}'."))


def _rootcheck(element: conf.Element) -> None:
    if element.name == "frequency":
        conf.number(element)
    elif element.name in _ROOTCHECK_YES_NO:
        conf.yes_or_no(element)
    elif element.name not in _ROOTCHECK_TEXT:
        raise Refused(conf.invalid(element.name))


def _watched(program: Program, sections: list[conf.Element]) -> Iterator[str]:
    """The folders; where one comes twice, the rest of its line is passed over."""
    known: set[str] = set()
    for element in conf.within(sections, "syscheck"):
        for folder in element.text.split(",") if element.name == "directories" else ():
            if folder in known:
                program.say(f"Duplicated directory given: '{folder}'.", "ERROR", 1756)
                break
            known.add(folder)
            yield folder


def _scan_now_and_then(
    program: Program, line: Line, folders: Sequence[str], frequency: int
) -> None:
    first, due = True, 0.0
    while True:
        if time.monotonic() >= due or _RUN_NOW.exists():
            _RUN_NOW.unlink(missing_ok=True)
            which = " (forwarding database)" if first else ""
            program.say(f"Starting syscheck scan{which}.")
            count = sum(1 for folder in folders for _ in Path(folder).glob("*"))
            line.send("8", "syscheck", f"{count} files are in watched folders")
            program.say(f"Ending syscheck scan{which}.")
            first, due = False, time.monotonic() + frequency
        time.sleep(0.5)
