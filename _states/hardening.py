"""The two states that every family is made of: compare, fix, look again; and refuse what could lock
somebody out.
"""

from salt.exceptions import CommandExecutionError


def __virtual__():
    if "hardening.settings" not in __salt__:
        return (
            False,
            "hardening: the execution module hardening is not loaded: run saltutil.sync_all",
        )
    return True


def _drifted(family, guarded):
    """Findings of the family that are not as expected, of the guarded controls or of the others
    only.
    """
    findings = __salt__[f"{family}.drift"]()
    if guarded is not None:
        chosen = set(__salt__["hardening.guarded"](family))
        findings = [finding for finding in findings if (finding["id"] in chosen) == guarded]
    return {
        finding["id"]: finding for finding in findings if finding["status"] in ("drift", "error")
    }


def _lines(heading, findings):
    return [heading, *(f"  {i} {f['title']}: {f['reason']}" for i, f in findings.items())]


def _by_state(findings):
    return {i: f for i, f in findings.items() if f["remedy"] == "state"}


def _change(old, new):
    """The two sides of a difference, without what is the same on both."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        old, new = ({key: side.get(key) for key in keys} for side in (old, new))
    return {"old": old, "new": new}


def _changes(findings):
    return {i: _change(finding["actual"], finding["expected"]) for i, finding in findings.items()}


def _fixed(family, guarded, found):
    """(what went wrong, the changes tried, the last look). No control is tried twice."""
    failures, changes = [], {}
    while new := {i: f for i, f in _by_state(found).items() if i not in changes}:
        changes.update(_changes(new))
        try:
            __salt__[f"{family}.enforce"](sorted(new))
        except CommandExecutionError as error:
            failures.append(str(error))
        try:
            found = _drifted(family, guarded)
        except CommandExecutionError as error:
            raise CommandExecutionError("\n".join([*failures, str(error)])) from None
    return "\n".join(failures), changes, found


def _failed(name, *reasons):
    return {
        "name": name,
        "result": False,
        "changes": {},
        "comment": "\n".join(str(reason) for reason in reasons if str(reason)),
    }


def enforced(name, family, guarded=None):
    """
    Every control of a family holds: difference, fix, and a second look. Success is what the last
    look shows; what a fix itself brought about (a password that now has to age) is fixed as well.

    family
        The family, such as ``sshd``; its module offers ``drift`` and ``enforce``.

    guarded
        ``True`` for the controls that are enforced only while somebody keeps a way in, ``False``
        for the others, left out for all.

    What no state can fix (``remedy`` manual or reboot) is a warning, not a failure.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        before = _drifted(family, guarded)
    except CommandExecutionError as error:
        return _failed(name, error)
    fixable = _by_state(before)
    if fixable and __opts__["test"]:
        __context__.setdefault("rocksalt.foreseen", []).extend(fixable)
        comment = _lines(f"{len(fixable)} control(s) of {family} would be enforced:", fixable)
        changes = _changes(fixable)
        ret |= {"result": None, "changes": changes, "comment": "\n".join(comment)}
        return ret | _warned(family, before, fixable)
    try:
        failure, changes, after = _fixed(family, guarded, before)
    except CommandExecutionError as error:
        return _failed(name, error)
    residue = _by_state(after)
    ret["changes"] = {i: change for i, change in changes.items() if i not in residue}
    if ret["changes"] and family != "drift":
        __context__["rocksalt.changed"] = True
    ret["result"] = not residue and not failure
    comment = [f"{len(ret['changes'])} control(s) of {family} enforced."] if ret["changes"] else []
    comment += [failure] if failure else []
    comment += (
        _lines(f"{len(residue)} control(s) of {family} still differ:", residue) if residue else []
    )
    ret["comment"] = "\n".join(comment) or f"Every control of {family} holds."
    return ret | _warned(family, after, residue)


def _warned(family, found, by_state):
    """The warnings of what a person has to do."""
    others = {i: f for i, f in found.items() if i not in by_state}
    heading = f"{len(others)} control(s) of {family} need a person:"
    return {"warnings": _lines(heading, others)} if others else {}


def safe(name, family):
    """
    Somebody keeps a way in when the dangerous controls of a family are enforced; otherwise this
    state fails, and so does what requires it, before anything was touched. Nothing is changed here,
    in test mode neither.

    family
        The family, such as ``sshd``; its module offers ``safe``.
    """
    try:
        verdict = __salt__[f"{family}.safe"]()
    except CommandExecutionError as error:
        return _failed(name, error)
    comment = verdict["reason"]
    if not verdict["safe"]:
        comment += f"; the guarded controls of {family} are left as found"
    return {"name": name, "result": verdict["safe"], "changes": {}, "comment": comment}


def absent(name, family):
    """
    What the baseline put on this host for a family is gone; what others put there stays.

    family
        The family, such as ``sshd``; its module offers ``clean``.
    """
    try:
        found = __salt__[f"{family}.clean"](test=True)
    except CommandExecutionError as error:
        return _failed(name, error)
    ret = {
        "name": name,
        "result": True,
        "changes": {},
        "comment": f"Nothing of {family} is on this host.",
    }
    if not found:
        return ret
    ret["changes"] = {item: {"old": "ours", "new": None} for item in found}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{len(found)} thing(s) would be taken away."}
    try:
        __salt__[f"{family}.clean"]()
    except CommandExecutionError as error:
        return _failed(name, error)
    return {**ret, "comment": f"{len(found)} thing(s) taken away."}
