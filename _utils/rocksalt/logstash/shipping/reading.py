"""What the text of a line says by itself: who, from where, whether it worked, and when."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import re
import time
from collections.abc import Callable
from typing import Any

from rocksalt.firewall import LOG_PREFIX
from rocksalt.logstash.shipping import datasets
from rocksalt.logstash.shipping.mask import MASKED, Masker

Document = dict[str, Any]
_FROM = r" from (?P<ip>\S+) port (?P<port>\d{1,5})"
_LOGIN = re.compile(
    rf"(?P<verb>Accepted|Failed) \S+ \S+ (?:invalid user )?(?P<user>.*){_FROM}(?: ssh2.*)?$"
)
_INVALID = re.compile(rf"Invalid user (?P<user>.*){_FROM}$")
_PEER = re.compile(r"(?P<ip>[0-9a-fA-F.:]{3,45}) port (?P<port>\d{1,5})(?: \[preauth\])?$")
_SUDO = re.compile(r"\s*(?P<user>\S+) : (?P<why>[^;]*)")
_AS = re.compile(r" ; USER=(\S+) ; ")
_PACKET = re.compile(r"\b(SRC|DST|SPT|DPT|PROTO|IN|OUT)=(\S*)")
_BAN = re.compile(r"\[(?P<jail>[^\]]+)\] (?P<verb>Ban|Unban|Restore Ban|Found) (?P<ip>\S+)")
_COMMA_TIME = r"(?P<when>(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)),(?P<milli>\d{3}) "
_SALT = re.compile(
    _COMMA_TIME + r"(?:\[(?P<logger>[^\]\[\s]*?)\s*:\d+\s*\])?(?:\[(?P<level>[A-Z]+)\s*\])?"
    r"(?:\[(?P<pid>\d{1,9})\])?"
)
_FAIL2BAN = re.compile(_COMMA_TIME + r"(?P<logger>\S+)\s+\[(?P<pid>\d{1,9})\]: (?P<level>[A-Z]+)\s")
_OSSEC = re.compile(r"(?P<when>(\d{4})/(\d\d)/(\d\d) (\d\d):(\d\d):(\d\d)) (?P<program>[\w.-]+)?")
_ALERT = re.compile(r"\*\* Alert (?P<seconds>\d{9,10})\.")
_AUDIT = re.compile(
    r"(?:type=(?P<type>\w+) )?(?:msg=)?audit\((?P<s>\d{9,10})\.(?P<ms>\d{3}):(?P<n>\d{1,18})\)"
)
_HEX = re.compile(r"\b(?P<name>proctitle|cmd|data|a\d+)=(?P<hex>[0-9A-F]{2,})(?= |$)")
_EXECVE = re.compile(r"\bEXECVE\b")
_ARGUMENT = re.compile(r"\ba\d+(?:\[\d+\])?=(?:\"(?P<text>[^\"]*)\"|(?P<hex>[0-9A-F]{2,})(?= |$))")
_MOST, _NAME = 8192, 256
_EARLIEST, _DAY = 631_152_000, 86_400
"""Seconds; the first is 1990."""
_SUCCESS = {True: "success", False: "failure"}


def read(made: Document, text: str, dataset: str, program: str, path: str = "") -> None:
    """Adds what a line of a dataset says to its document; the end of a long one is not read."""
    text = text[:_MOST]
    if dataset == datasets.AUTH:
        if program.startswith("sshd"):
            _sshd(made, text)
        elif program == "sudo":
            _sudo(made, text)
    elif reader := _READERS.get(dataset):
        reader(made, text, bool(path))


def without_hidden(text: str, masker: Masker) -> str:
    """A line of audit, as it is, without the secrets that are written in hexadecimal numbers, or in
    several arguments of one command.
    """
    if _EXECVE.search(text):
        command = " ".join(
            it["text"] or _unhexed(it["hex"] or "") for it in _ARGUMENT.finditer(text)
        )
        if masker.mask(command) == command:
            return text
        first = _ARGUMENT.search(text)
        assert first
        return text[: first.end()] + _ARGUMENT.sub(
            lambda it: f"{it[0].partition('=')[0]}={MASKED}", text[first.end() :]
        )
    return _HEX.sub(functools.partial(_decided, masker), text) if "=" in text else text


def _decided(masker: Masker, match: re.Match[str]) -> str:
    said = _unhexed(match["hex"])
    return match[0] if masker.mask(said) == said else f"{match['name']}={MASKED}"


def _unhexed(digits: str) -> str:
    return (
        bytes.fromhex(digits[: len(digits) // 2 * 2])
        .replace(b"\0", b" ")
        .decode("utf-8", "backslashreplace")
    )


def _address(text: str) -> str:
    """An address of the internet, without its zone; empty for what is none."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return ""


def _peer(made: Document, name: str, ip: str | None, port: str | None) -> None:
    found: Document = {}
    if ip and (address := _address(ip)):
        found["ip"] = address
        if port and len(port) < 6 and port.isdecimal() and int(port) < 65536:
            found["port"] = int(port)
        made[name] = found


def _says(made: Document, action: str, category: list[str], types: list[str], **more: str) -> None:
    made["event"].update(action=action, category=category, type=types, **more)


def _user(made: Document, **found: Any) -> None:
    """Who a text is about, beside the id of who wrote it."""
    made["user"] = {**made.get("user", {}), **found}


def _sshd(made: Document, text: str) -> None:
    if match := _LOGIN.match(text):
        outcome = _SUCCESS[match["verb"] == "Accepted"]
        _says(made, "ssh_login", ["authentication"], ["start"], outcome=outcome)
    elif match := _INVALID.match(text):
        _says(made, "ssh_login", ["authentication"], ["info"], outcome="failure")
    elif " port " in text and (match := _PEER.search(text)):
        _peer(made, "source", match["ip"], match["port"])
        return
    if match:
        if match["user"]:
            _user(made, name=match["user"][:_NAME])
        _peer(made, "source", match["ip"], match["port"])


def _sudo(made: Document, text: str) -> None:
    match, other = _SUDO.match(text), _AS.search(text)
    if match and other and "COMMAND=" in text:
        asked = match["why"].startswith(("TTY=", "PWD=", "HOST=", "GROUP=", "ENV=", "CHROOT="))
        _says(made, "sudo", ["process"], ["start"], outcome=_SUCCESS[asked])
        _user(made, name=match["user"][:_NAME], effective={"name": other[1][:_NAME]})


def _packet(made: Document, text: str, file: bool) -> None:
    found = dict(_PACKET.findall(text))
    if text.startswith(LOG_PREFIX):
        _says(made, "drop", ["network"], ["connection", "denied"])
    else:
        made["event"].update(category=["network"], type=["connection"])
    _peer(made, "source", found.get("SRC"), found.get("SPT"))
    _peer(made, "destination", found.get("DST"), found.get("DPT"))
    network: Document = {}
    if found.get("PROTO"):
        network["transport"] = found["PROTO"].lower()[:_NAME]
    if bool(found.get("IN")) != bool(found.get("OUT")):
        network["direction"] = "ingress" if found.get("IN") else "egress"
    if network:
        made["network"] = network


def _fail2ban(made: Document, text: str, file: bool) -> None:
    _logged(made, _FAIL2BAN.match(text))
    if match := _BAN.search(text):
        action = match["verb"].lower().replace(" ", "_")
        types = ["denied"] if action.endswith("ban") and action != "unban" else ["info"]
        _says(made, action, ["intrusion_detection", "network"], types)
        made["rule"] = {"name": match["jail"][:_NAME]}
        _peer(made, "source", match["ip"], None)


def _salt(made: Document, text: str, file: bool) -> None:
    _logged(made, _SALT.match(text))


def _logged(made: Document, match: re.Match[str] | None) -> None:
    """What Python's logging writes before a message."""
    if not match:
        return
    _dated(made, match, int(match["milli"]) * 1000)
    log = made.setdefault("log", {})
    if match["level"]:
        log["level"] = match["level"].lower()[:_NAME]
    if match["logger"]:
        log["logger"] = match["logger"][:_NAME]
    if match["pid"]:
        made.setdefault("process", {})["pid"] = int(match["pid"])


def _dated(made: Document, match: re.Match[str], micros: int = 0) -> None:
    """The time of a line in the zone of this host."""
    numbers = [int(it) for it in re.findall(r"\d+", match["when"])]
    try:
        seconds = dt.datetime(*numbers).timestamp()  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return
    _at(made, int(seconds), micros)


def _at(made: Document, seconds: int, micros: int = 0) -> None:
    """The time that a line says, where it can be one."""
    read_at = dt.datetime.fromisoformat(f"{made['event']['created'].rstrip('Z')}+00:00")
    if _EARLIEST <= seconds <= read_at.timestamp() + _DAY:
        said = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        made["@timestamp"] = f"{said}.{micros:06d}Z"


def _ossec(made: Document, text: str, file: bool) -> None:
    if match := _ALERT.match(text):
        _at(made, int(match["seconds"]))
        made["event"].update(kind="alert", category=["intrusion_detection"], type=["info"])
    elif match := _OSSEC.match(text):
        _dated(made, match)
        if match["program"]:
            made.setdefault("process", {})["name"] = match["program"][:_NAME]


def _audit(made: Document, text: str, file: bool) -> None:
    if match := _AUDIT.match(text):
        made["event"]["sequence"] = int(match["n"])
        if match["type"]:
            made["event"]["action"] = match["type"].lower()[:_NAME]
        if file:
            _at(made, int(match["s"]), int(match["ms"]) * 1000)


_READERS: dict[str, Callable[[Document, str, bool], None]] = {
    datasets.IPTABLES: _packet,
    datasets.FAIL2BAN: _fail2ban,
    datasets.SALT: _salt,
    datasets.OSSEC: _ossec,
    datasets.AUDIT: _audit,
}
