"""Which calls may pass on to the master: what is not known to be harmless is refused.

Salt's own check judges the function, its target and the arguments that it was told to look at. All
the other keys of a call (``ret``, ``module_executors``, ``metadata``, ...) pass there with any
token, so they end here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .grants import DEPLOY

_ON_MINIONS = frozenset({"client", "tgt", "tgt_type", "fun", "arg", "kwarg", "timeout"})
_ON_MASTER = frozenset({"client", "fun", "arg", "kwarg", "timeout"})
KEYS: Mapping[str, frozenset[str]] = {
    "local": _ON_MINIONS | {"full_return"},
    "local_async": _ON_MINIONS,
    "runner": _ON_MASTER | {"full_return"},
    "runner_async": _ON_MASTER - {"timeout"},
}
"""What a call may have, by its client."""
CLIENTS = frozenset(KEYS)
NEVER = frozenset(
    [
        *("arg", "auth_list", "batch", "cache", "cache_name", "client", "delimiter", "eauth"),
        *("exclude", "executor_opts", "force", "full_return", "jid", "kwarg", "localconfig"),
        *("metadata", "mock", "module_executors", "password", "pillar", "pillar_enc"),
        *("pillar_override", "pillarenv", "raw_shell", "ret", "ret_config", "ret_kwargs"),
        *("saltenv", "subset", "tgt_type", "token", "username", "whitelist"),
    ]
)
"""Names that are no keyword of a function either: functions with ``**kwargs`` would heed them.
``state.highstate`` leaves out states by some of these, or takes them from a file in a cache.
"""
ASKED = frozenset({"arg", "kwarg", "tgt_type"})
"""Those of them that a runner may have, for it goes by the names of its own arguments alone, and
``access.can`` is asked about a call.
"""
ANYBODY = frozenset({"saltutil.find_job"})
"""Functions that a master lets everybody call on every minion who has any right at all."""
COMMANDS = frozenset({"cmd.run"})
"""Functions whose arguments are a command line anyway."""
LONGEST = 7200
"""Seconds that a call may wait."""
LONGEST_VERSION = 64
"""Letters; the master matches a version with a pattern, whatever that takes."""

_OURS = ("access.", "logbook.")
"""Runners of ours, which match no text of a caller as an expression."""
_FUNCTION = re.compile(r"[a-z_][a-z0-9_]{0,63}\.[a-z_][a-z0-9_]{0,63}")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,253}")
_GLOB = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,254}")
_KEYWORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_POSITIONAL_KEYWORD = re.compile(r"[^\d\W][\w.-]*=(?!=)")
"""As Salt has it: a minion takes such a word for a keyword, after the check of keywords."""


@dataclass(frozen=True)
class Rules:
    """Clients that may pass, and how large a request may be."""

    clients: frozenset[str]
    calls: int = 8
    depth: int = 8
    values: int = 2000
    targets: int = 1000


def refusal(low: object, rules: Rules) -> str:
    """Why a body may not pass, in one sentence; empty where it may.

    ``low`` is the body as JSON gives it: a list of calls, such as ``{"client": "local", "tgt":
    "web1", "fun": "deploy.run", "kwarg": {"app": "shop", "version": "1.2"}}``.
    """
    if not isinstance(low, list) or not low:
        return "the body has to be a list of calls"
    if len(low) > rules.calls:
        return f"{len(low)} calls are too many; at most {rules.calls} may come together"
    if why := next(_too_much(low, rules), ""):
        return why
    whys = ((number, _of_call(call, rules)) for number, call in enumerate(low, 1))
    first = next(((number, why) for number, why in whys if why), None)
    if first is None:
        return ""
    return first[1] if len(low) == 1 else f"call {first[0]}: {first[1]}"


def _of_call(call: object, rules: Rules) -> str:
    if not isinstance(call, dict):
        return "a call has to be an object with client, fun and what that takes"
    client = call.get("client")
    if not isinstance(client, str) or client not in rules.clients & CLIENTS:
        enabled = ", ".join(sorted(rules.clients & CLIENTS)) or "none"
        return f"client {_shown(client)} is not served here; those are: {enabled}"
    if more := sorted(set(call) - KEYS[client]):
        return f"{_shown(more[0])} may not be given with client {client}"
    if why := _of_function(call.get("fun")) or _of_arguments(call, rules) or _of_rest(call):
        return why
    if client.startswith("local"):
        return _of_target(call.get("tgt"), call.get("tgt_type", "glob"), rules)
    return ""


def _of_function(fun: object) -> str:
    if not isinstance(fun, str) or not _FUNCTION.fullmatch(fun):
        return f"fun {_shown(fun)} is not the name of one function, such as deploy.run"
    if fun in ANYBODY:
        return f"fun {fun} may not be called from here"
    return ""


def _of_target(tgt: object, tgt_type: object, rules: Rules) -> str:
    if tgt_type == "glob":
        if isinstance(tgt, str) and _GLOB.fullmatch(tgt):
            return ""
        return f"tgt {_shown(tgt)} is no minion id or glob of them; several need tgt_type list"
    if tgt_type != "list":
        return f"tgt_type {_shown(tgt_type)} may not be used; those that may are glob and list"
    ids = tgt.split(",") if isinstance(tgt, str) else tgt
    if not isinstance(ids, list) or not 0 < len(ids) <= rules.targets:
        return f"tgt has to be a list of at most {rules.targets} minion ids"
    wrong = [one for one in ids if not isinstance(one, str) or not _ID.fullmatch(one)]
    return f"tgt {_shown(wrong[0])} is no minion id" if wrong else ""


def _of_arguments(call: dict[str, Any], rules: Rules) -> str:
    arg, kwarg = call.get("arg", []), call.get("kwarg", {})
    runs = call["client"].startswith("runner")
    if not isinstance(arg, list):
        return "arg has to be a list"
    if arg and not call["fun"].startswith(_OURS if runs else ()):
        # The rights look at names alone, and so does what may never be given.
        return "arg may not be given; put each argument into kwarg by its name"
    for one in arg:
        if isinstance(one, str) and _POSITIONAL_KEYWORD.match(one):
            return f"argument {_shown(one.split('=')[0])} has a name and belongs in kwarg"
    if not isinstance(kwarg, dict):
        return "kwarg has to be an object"
    for key in kwarg:
        if not _KEYWORD.fullmatch(key) or key in (NEVER - ASKED if runs else NEVER):
            return f"{_shown(key)} may not be given in kwarg"
    if not runs and call["fun"] not in COMMANDS:
        for key, value in kwarg.items():
            if any(text.lstrip().startswith("-") for text in _texts(value)):
                return f"{_shown(key)} may not begin with -, which a program takes for an option"
    if call["fun"] == DEPLOY and "version" in kwarg:
        return _of_version(kwarg["version"])
    if runs and not call["fun"].startswith(_OURS) and {"tgt", "tgt_type"} & {*kwarg}:
        # Salt would match expressions of its callers with the ids of minions.
        return _of_target(kwarg.get("tgt", "*"), kwarg.get("tgt_type", "glob"), rules)
    return ""


def _texts(value: object) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value:
            yield from _texts(one)
        for one in value.values() if isinstance(value, dict) else ():
            yield from _texts(one)


def _of_version(version: object) -> str:
    if not isinstance(version, str):
        return f"version {_shown(version)} is no text; as JSON it has quotes"
    if len(version) > LONGEST_VERSION:
        return f"version {_shown(version)} is longer than {LONGEST_VERSION} letters"
    return ""


def _of_rest(call: dict[str, Any]) -> str:
    timeout = call.get("timeout", 1)
    if type(timeout) is not int or not 0 < timeout <= LONGEST:
        return f"timeout {_shown(timeout)} is no number of seconds from 1 to {LONGEST}"
    if not isinstance(call.get("full_return", False), bool):
        return "full_return has to be true or false"
    return ""


def _too_much(low: object, rules: Rules) -> Iterator[str]:
    """Reasons to refuse a body whatever it means: too deep, too many values, odd ones."""
    # The list of calls and a call are two levels, arg or kwarg is the third.
    level, depth, values = [low], 0, 0
    while level:
        depth += 1
        values += len(level)
        if depth > rules.depth + 3:
            yield f"the body is deeper than {rules.depth} levels below arg and kwarg"
        if values > rules.values:
            yield f"the body has more than {rules.values} values"
        below: list[Any] = []
        for value in level:
            if why := _odd(value):
                yield why
            if isinstance(value, dict):
                below += [*value, *value.values()]
                if hidden := [key for key in value if key.startswith("__")]:
                    yield f"{_shown(hidden[0])} may not be given"
            elif isinstance(value, list):
                below += value
        level = below


def _odd(value: object) -> str:
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            return f"{_shown(value)} is no text"
    elif isinstance(value, float):
        if not math.isfinite(value):
            return "a number is not finite"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a whole number is too large"
    return ""


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
