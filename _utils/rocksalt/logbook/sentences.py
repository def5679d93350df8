"""A sentence for a record, for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_HOSTS = 5
_LONGEST = 300
_WORDS = {
    "login": "logged in at the API",
    "logout": "logged out of the API",
    "login-refused": "was refused a log-in at the API",
    "refused": "was refused by the API",
    "limited": "was held off by the API",
    "asked": "asked the API for",
    "call": "called by the API",
}


def sentence(record: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    """``2026-11-23 08:00:01 alice: deploy.run(app=shop) on web1, web2 [job 2026...]``. ``job`` is
    what the record belongs to: who asked for it.
    """
    tell = _KINDS.get(str(record.get("kind")), _other)
    late = " (from the job cache)" if record.get("filled") is True else ""
    other = " (CONFLICT: another record says otherwise)" if record.get("conflict") else ""
    time = str(record.get("time", ""))[:19].replace("T", " ")
    cut = f" (cut: {_list(record['cut'])})" if record.get("cut") else ""
    return _plain(f"{time} {tell(record, job)}{late}{other}{cut}")


def _job(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    call = f"{_call(it)} on {_on(it)}"
    if "refused" in it:
        # Any minion can say so of anybody.
        return f"refused, said to be {_who(it)}'s: {call}: {it['refused']} [job {it.get('jid')}]"
    missing = _list(it.get("missing") or (), it.get("more_missing", 0))
    deaf = f", which {missing} could not hear" if missing else ""
    return f"{_who(it)}: {call}{deaf} [job {it.get('jid')}]"


def _return(it: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    states, counts = it.get("states"), ""
    if isinstance(states, Mapping):
        counts = f", {states['changed']} changed and {states['failed']} failed of {states['all']}"
    if it.get("called"):
        return f"{it.get('minion')}, unasked: {_call(it)} {_outcome(it)}{counts}"
    who = f" for {job['user']}" if job.get("user") else ""
    said = f"{it.get('minion')}: {it.get('fun')}{who} {_outcome(it)}{counts}"
    return f"{said} [job {it.get('jid')}]"


def _called(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    return f"{_who(it)}: {_call(it)} on the master [{it.get('jid')}]"


def _ended(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    return f"master: {it.get('fun')} for {_who(it)} {_outcome(it)} [{it.get('jid')}]"


def _auth(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    outcome = "" if it.get("success") else ", refused"
    asked = f"{it.get('minion')} asked to be let in with the key {it.get('key')}"
    return f"{asked}: {it.get('act')}{outcome}"


def _key(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    if it.get("act") == "found":
        return f"the key {it.get('key')} of {it.get('minion')} is accepted with nobody's word"
    done = "" if it.get("success") else ", which failed"
    return f"somebody on the master: {it.get('act')} the key of {it.get('minion')}{done}"


def _api(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    what = _WORDS.get(str(it.get("event")), str(it.get("event") or it.get("text") or "said"))
    call = f" {_call(it)} on {_on(it)}" if it.get("fun") else ""
    where = f" from {it['source']}" if it.get("source") else ""
    return f"{_who(it)}{where} {what}{call}: {it.get('outcome')}"


def _files(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    if it.get("first"):
        return f"{it.get('tree')} is watched from now on, {it.get('files')} files"
    parts = [
        f"{kind} {_list(it[kind], it.get(f'more_{kind}', 0))}"
        for kind in ("added", "changed", "removed", "touched") if it.get(kind)
    ]  # fmt: skip
    left = ["it has too many files to look at all"] if it.get("unwatched") else []
    return f"{it.get('tree')}: {'; '.join([*parts, *left])}"


def _start(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    if it.get("clean"):
        return "the logbook was started"
    return f"the logbook was started; it had not been stopped, and wrote last at {it.get('since')}"


def _gap(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    if not it.get("since"):
        return "the logbook begins"
    count = sum((it.get("filled") or {}).values())
    said = f"gap from {it['since']} to {it.get('until')}: {it.get('why')}"
    return f"{said}; {it.get('error') or f'{count} records were filled in from the job cache'}"


def _limited(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    left = [f"{count} of {name or 'nobody known'}" for name, count in it.get("left", {}).items()]
    said = [f"left out: {_list(left)}"] if left else []
    said += [f"cut: {it['shortened']} records"] if it.get("shortened") else []
    of = f", among them {', '.join(map(str, it['of']))}" if it.get("of") else ""
    return f"{'; '.join(said)}: {it.get('why')}{of}"


def _other(it: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in it.items() if key not in ("time", "event.id", "host.name")}
    return json.dumps(rest)


_KINDS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]] = {
    "job": _job, "return": _return, "runner": _called, "runner-return": _ended, "wheel": _called,
    "wheel-return": _ended, "auth": _auth, "key": _key, "api": _api, "files": _files,
    "start": _start, "gap": _gap, "limited": _limited,
    "claim": lambda it, _: f"{it.get('minion')} sent what only the master says: {it.get('tag')}",
    "odd": lambda it, _: f"{it.get('tag')} cannot be read: {it.get('why')}",
    "missed": lambda it, _: str(it.get("why")),
    "unwitnessed": lambda it, _: (
        f"the witness saw nothing of the logbook since {it.get('since')}: {it.get('why')}"
    ),
    "witnessed": lambda it, _: (
        f"the witness sees the logbook again, and saw nothing since {it.get('since')}"
    ),
    "stop": lambda *_: "the logbook was stopped",
    "lost": lambda it, _: f"{it.get('why')}; heard last at {it.get('since')}",
}  # fmt: skip


def _who(it: Mapping[str, Any]) -> str:
    name = str(it.get("user") or "somebody")
    # Minions can write into the job cache.
    return f"said to be {name}" if it.get("filled") is True else name


def _call(it: Mapping[str, Any]) -> str:
    words = [_word(value) for value in it.get("arg") or ()]
    words += [f"{key}={_word(value)}" for key, value in (it.get("kwarg") or {}).items()]
    given = " ".join(words)
    return f"{it.get('fun')}({given if len(given) <= _LONGEST else f'{given[:_LONGEST]}...'})"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _on(it: Mapping[str, Any]) -> str:
    tgt = it.get("tgt", "...")
    written = ",".join(map(str, tgt)) if isinstance(tgt, list) else str(tgt)
    minions = it.get("minions")
    if minions is None:
        return written
    named = _list(minions, it.get("more_minions", 0)) if minions else "no minion"
    return named if named == written else f"{named} ({it.get('tgt_type')} {written})"


def _outcome(it: Mapping[str, Any]) -> str:
    code = it.get("retcode")
    if "unread" in it:
        return f"ended, and what came of it cannot be read ({it['unread']})"
    if it.get("success") is False or code:
        return f"failed (retcode {code})" if code is not None else "failed"
    return "done" if it.get("success") else "ended"


def _list(values: Any, more: int = 0) -> str:
    names = [str(it) for it in values]
    rest = len(names) - _HOSTS + more if len(names) > _HOSTS else more
    return ", ".join(names[:_HOSTS]) + (f" and {rest} more" if rest else "")


def _plain(text: str) -> str:
    """In one line: control characters are written as escapes, so that nobody forges a line."""
    return "".join(it if it.isprintable() else ascii(it)[1:-1] for it in text)
