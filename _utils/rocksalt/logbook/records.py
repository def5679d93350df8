"""What the logbook keeps of an event of the master: a flat mapping, or nothing.

``time`` (UTC, of the event), ``kind``, ``event.id`` (the same when it is told again), and by kind:

- ``job``: user, fun, arg, kwarg, tgt, tgt_type, minions, missing, jid; ``refused`` instead where
  the master did not publish it
- ``return``: minion, jid, fun, success, retcode, and of states ``states`` {all, changed, failed};
  ``called`` with arg and kwarg where the minion did it by itself (salt-call)
- ``runner``, ``wheel``: user, fun, arg, kwarg, jid; ``runner-return``, ``wheel-return``: success
- ``auth``: what came of a minion that asked to be let in; ``key``: somebody decided on its key
- ``claim``: a minion sent what only the master says, with the ``tag``
- ``odd``: an event that cannot be read, with the ``tag`` and ``why``

What a function gave back is not kept: it may be anything, and it is in the job cache.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from rocksalt.logbook.arguments import Arguments

Record = dict[str, Any]
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
MINIONS = 2000
"""Names of minions in one record; there may be more, which are counted."""
FUNCTIONS, _FEW = 32_000, 100
"""Characters of the names of all functions in one job, and how many may be there again."""
_NAME = 256
_JOB = re.compile(r"salt/job/(?P<jid>[^/]+)/(?P<what>new|error|ret)(?:/(?P<minion>.+))?")
_CALL = re.compile(r"salt/(?P<client>run|wheel)/(?P<jid>[^/]+)/(?P<what>new|ret)")
_MASTERS = ("salt/job/", "salt/run/", "salt/wheel/", "salt/auth", "salt/key")
"""What only the master says."""
_CLIENTS = {"run": "runner", "wheel": "wheel"}
_ACTS = {"accepted": "accept", "rejected": "reject", "denied": "deny", "pending": "pend"}
"""How Salt 3008 says what was done to a key -> how 3006 does."""


def record(tag: str, data: Mapping[str, Any], arguments: Arguments) -> Record | None:
    """The record of an event; None for one that is no business of the logbook."""
    if data.get("cmd") == "_minion_event":
        return _claimed(tag, data) if tag.startswith(_MASTERS) else None
    if match := _JOB.fullmatch(tag):
        return _of_job(match, data, arguments)
    if match := _CALL.fullmatch(tag):
        kind, jid = _CLIENTS[match["client"]], _name(match["jid"])
        return called(kind, match["what"], jid, data, arguments)
    if tag in ("salt/auth", "salt/key"):
        return _of_key(tag[5:], data)
    return None


def odd(tag: str, data: Mapping[str, Any], why: str) -> Record:
    """The record of an event of which no other can be made."""
    when = moment(data.get("_stamp"))
    identity = f"odd/{short(tag, why)}/{when}"
    return {"time": when, "kind": "odd", "tag": _name(tag), "why": why, "event.id": identity}


def unread(tag: str, why: str) -> Record | None:
    """The record of an event that cannot be unpacked; its tag can always be read."""
    return odd(tag, {}, why) if tag.startswith(_MASTERS) else None


def job(jid: str, data: Mapping[str, Any], arguments: Arguments) -> Record:
    """A job that was published."""
    minions = _names(data.get("minions"))
    found = {
        **_asked("job", jid, data, data.get("arg"), arguments),
        "tgt": arguments.clean(data.get("tgt")),
        "tgt_type": _name(data.get("tgt_type")),
        **_some("minions", minions),
        "event.id": f"job/{jid}/{short(*sorted(minions))}",
    }
    missing = _names(data.get("missing"))
    return {**found, **_some("missing", missing)} if missing else found


def returned(jid: str, minion: str, data: Mapping[str, Any], arguments: Arguments) -> Record:
    """What came back of a job from a minion."""
    found: Record = {
        "time": moment(data.get("_stamp")),
        "kind": "return",
        "minion": _name(minion),
        "jid": jid,
        "fun": function(data.get("fun")),
        "success": _success(data.get("success")),
        "retcode": _code(data.get("retcode")),
        "event.id": f"return/{jid}/{_name(minion)}",
    }
    if counts := _states(data.get("return")):
        found["states"] = counts
    if "tgt" in data and "user" not in data:
        # Only of what a minion did unasked, the master makes up a target.
        found["called"] = True
        given = data.get("fun_args") or data.get("arg")
        found["arg"], found["kwarg"] = arguments.split(found["fun"], given)
    return found


def called(kind: str, what: str, jid: str, data: Mapping[str, Any], arguments: Arguments) -> Record:
    """A runner or wheel function that was called (``new``), or came to its end (``ret``)."""
    if what == "new":
        return {
            **_asked(kind, jid, data, data.get("fun_args"), arguments),
            "event.id": f"{kind}/{jid}",
        }
    return {
        "time": moment(data.get("_stamp")),
        "kind": f"{kind}-return",
        "user": _name(data.get("user")),
        "fun": function(data.get("fun")),
        "jid": jid,
        "success": _succeeded(data),
        "event.id": f"{kind}-return/{jid}",
    }


def moment(stamp: object) -> str | None:
    """A time of Salt (UTC, with or without an offset) as records have it; None for none."""
    try:
        found = dt.datetime.fromisoformat(str(stamp).replace("Z", "+00:00"))
    except ValueError:
        return None
    return told(found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc))


def told(time: dt.datetime) -> str:
    """A time as records have it."""
    return time.astimezone(dt.timezone.utc).strftime(TIME)


def function(value: object) -> str:
    """The name of a function, or of several in one job."""
    if not isinstance(value, (list, tuple)):
        return _name(value)
    names = [_name(it) for it in value]
    # One that is there again hides none.
    names = list(dict.fromkeys(names)) if len(names) > _FEW else names
    kept = _within(names, FUNCTIONS)
    mark = f"... ({len(value)} in all, sha256 {short(*names)})"
    return ",".join(kept if len(kept) == len(names) else [*kept, mark])


def short(*parts: str) -> str:
    """A digest to tell texts apart by."""
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:16]


def _of_job(match: re.Match[str], data: Mapping[str, Any], arguments: Arguments) -> Record | None:
    jid, minion = _name(match["jid"]), match["minion"]
    if match["what"] == "ret":
        return returned(jid, minion, data, arguments) if minion else None
    if minion:
        return None
    found = job(jid, data, arguments)
    if match["what"] == "error":
        error = data.get("error")
        said = error.get("message") if isinstance(error, Mapping) else error
        found |= {"refused": arguments.text(str(said)), "event.id": f"refused/{jid}"}
    return found


def _claimed(tag: str, data: Mapping[str, Any]) -> Record:
    minion, stamp = _name(data.get("id")), data.get("_stamp")
    return {
        "time": moment(stamp), "kind": "claim", "minion": minion, "tag": _name(tag),
        "success": False, "event.id": f"claim/{minion}/{short(tag)}/{stamp}",
    }  # fmt: skip


def _of_key(kind: str, data: Mapping[str, Any]) -> Record:
    minion, act = _name(data.get("id")), _name(data.get("act"))
    act = _ACTS.get(act, act) if kind == "key" else act
    found = {
        "time": moment(data.get("_stamp")), "kind": kind, "minion": minion, "act": act,
        "success": bool(data.get("result")),
    }  # fmt: skip
    if isinstance(data.get("pub"), (str, bytes)):
        found["key"] = short(str(data["pub"]))
    return {**found, "event.id": f"{kind}/{minion}/{act}/{data.get('_stamp')}"}


def _asked(
    kind: str, jid: str, data: Mapping[str, Any], given: object, arguments: Arguments
) -> Record:
    name = function(data.get("fun"))
    arg, kwarg = arguments.split(name, given)
    return {
        "time": moment(data.get("_stamp")), "kind": kind, "user": _name(data.get("user")),
        "fun": name, "arg": arg, "kwarg": kwarg, "jid": jid,
    }  # fmt: skip


def _name(value: object) -> str:
    text = str(value) if value is not None else ""
    return text if len(text) <= _NAME else f"{text[:_NAME]}... ({len(text)} characters)"


def _some(key: str, names: list[str]) -> Record:
    """The first names, and how many more there are."""
    kept = _within(names[:MINIONS], MINIONS * 32)
    more = len(names) - len(kept)
    return {key: kept, f"more_{key}": more} if more else {key: kept}


def _within(names: list[str], most: int) -> list[str]:
    """The first names that have no more characters together."""
    sizes = accumulate(map(len, names))
    return [name for name, size in zip(names, sizes, strict=True) if size <= most]


def _names(value: object) -> list[str]:
    return [_name(it) for it in value] if isinstance(value, (list, tuple, set)) else []


def _code(value: object) -> int | None:
    """The worst of all functions of a job; None where it is not known."""
    found = [it for it in _values(value) if isinstance(it, int)]
    return max(map(int, found)) if found else None


def _success(value: object) -> bool | None:
    found = [it for it in _values(value) if isinstance(it, bool)]
    return all(found) if found else None


def _values(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _succeeded(data: Mapping[str, Any]) -> bool | None:
    """A runner may say by its own code that it failed, though it came to its end."""
    given = data.get("return")
    own = given.get("retcode") if isinstance(given, Mapping) else None
    return False if isinstance(own, int) and own else _success(data.get("success"))


def _states(given: object) -> dict[str, int]:
    """How many states there were, empty for what is no run of states."""
    if not isinstance(given, Mapping) or not given:
        return {}
    states: Sequence[Any] = list(given.values())
    if not all(isinstance(it, Mapping) and "result" in it and "__run_num__" in it for it in states):
        return {}
    return {
        "all": len(states),
        "changed": sum(bool(it.get("changes")) for it in states),
        "failed": sum(it["result"] is False for it in states),
    }
