"""The directory of LDAP that knows passwords: whether it answers, and how long it is waited for.

The library of LDAP waits without an end for one that is silent while TLS begins, and whatever asked
with it hangs. So the door looks first, from a process that it can end, and the auth module asks
from a thread that it can leave.
"""

from __future__ import annotations

import contextvars
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

PATIENCE = 5
"""Seconds for a look, for a password and for groups."""
_Found = TypeVar("_Found")


def trouble(opts: Mapping[str, Any]) -> str:
    """Why the directory cannot be asked for a password now; empty where it answers."""
    asked = {name: _option(opts, name) for name in ("starttls", "no_verify")}
    asked["uri"] = uri(opts)
    try:
        done = subprocess.run(
            [sys.executable, __file__], input=json.dumps(asked), capture_output=True, text=True,
            timeout=PATIENCE, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{asked['uri']}: it says nothing for {PATIENCE} seconds"
    if done.returncode:
        return f"{asked['uri']}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}"
    return done.stdout.strip()


def in_time(ask: Callable[[], _Found]) -> _Found:
    """What a function gives; :class:`TimeoutError` where that takes too long."""
    found: Future[_Found] = Future()
    context = contextvars.copy_context()  # in which Salt's loader keeps its options

    def run() -> None:
        try:
            found.set_result(context.run(ask))
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=run, name="directory", daemon=True).start()
    return found.result(PATIENCE)


def lets_anybody_in(opts: Mapping[str, Any]) -> bool:
    """Whether Salt would ask for no password at all."""
    return bool(_option(opts, "anonymous") and _option(opts, "auth_by_group_membership_only"))


def uri(opts: Mapping[str, Any]) -> str:
    """As Salt puts it together."""
    scheme = "ldaps" if _option(opts, "tls") else "ldap"
    server, port = _option(opts, "server"), _option(opts, "port")
    return str(_option(opts, "uri") or f"{scheme}://{server}:{port}")


def _option(opts: Mapping[str, Any], name: str) -> Any:
    """An option of the master, or Salt's default."""
    import salt.auth.ldap

    key = f"auth.ldap.{name}"
    return opts.get(key, salt.auth.ldap.__defopts__.get(key))


def _look(asked: Mapping[str, Any]) -> str:
    """What is wrong with the directory. Whatever it says is an answer: it may let nobody look who
    has not logged in.
    """
    try:
        import ldap  # type: ignore[import-untyped]
    except ImportError:
        return "python-ldap is missing in the Python of the Salt master"
    connection = ldap.initialize(asked["uri"])
    connection.set_option(ldap.OPT_NETWORK_TIMEOUT, PATIENCE)
    if asked["no_verify"]:
        connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_NEVER)
        connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
    away = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT, ldap.UNAVAILABLE, ldap.BUSY)
    try:
        if asked["starttls"]:
            connection.start_tls_s()
        connection.search_s("", ldap.SCOPE_BASE, attrlist=["1.1"])
    except (*away, ldap.PROTOCOL_ERROR) as error:
        return f"{asked['uri']}: {error}"
    except ldap.LDAPError:
        pass
    return ""


if __name__ == "__main__":
    print(_look(json.load(sys.stdin)))
