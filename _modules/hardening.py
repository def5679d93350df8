"""What the baseline expects of this host: its settings, its catalogue, and whether the pillar makes
sense.

.. code-block:: bash

    salt '*' hardening.validate
    salt '*' hardening.settings sshd
    salt '*' hardening.controls severity=critical
"""

import datetime as dt
import inspect

from salt.exceptions import CommandExecutionError

from rocksalt import __version__, report, source
from rocksalt.advice import advice
from rocksalt.errors import InvalidSettings, RocksaltError
from rocksalt.plainly import plainly


def __virtual__():
    if __grains__.get("kernel") != "Linux":
        return False, "hardening: the baseline is for Linux hosts"
    return True


def _baseline(saltenv=None):
    with plainly():
        return source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)


def version():
    """
    The version of the baseline on this minion.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.version
    """
    return __version__


def settings(family=None, saltenv=None):
    """
    The effective settings of one family, or of all: defaults, operating system, roles and pillar
    put together. Secrets are shown as ``***``.

    family
        Name such as ``sshd``; all families when left out.

    saltenv
        The file server environment; the minion's own when left out.

    Raises ``CommandExecutionError`` with every problem when the pillar is invalid.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.settings sshd
    """
    if family is not None:
        return _family(family, saltenv).public_settings
    return {name: entry.public_settings for name, entry in _baseline(saltenv).families.items()}


def controls(families=None, severity=None, saltenv=None):
    """
    The catalogue: every promise with id, title, severity, rationale and references.

    families
        Names, as a list or separated by commas; all when left out.

    severity
        The least severity to list: ``critical``, ``high``, ``medium`` or ``low``.

    saltenv
        The file server environment; the minion's own when left out.

    Returns a list of mappings ``{id, family, title, severity, remedy, rationale, references}``.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.controls families=sshd severity=high
    """
    baseline = _baseline(saltenv)
    with plainly():
        wanted = report.chosen(baseline, families, None, severity)
    keys = ("id", "family", "title", "severity", "remedy", "rationale")
    return [
        {**{key: getattr(control, key) for key in keys}, "references": list(control.references)}
        for family in baseline.families.values()
        for control in family.controls.values()
        if control.id in wanted
    ]


def families(saltenv=None):
    """
    The families of the baseline in the order in which they are enforced.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.families
    """
    return list(_baseline(saltenv).families)


def guarded(family, saltenv=None):
    """
    The ids of the controls of a family that are enforced only while an administrator keeps a way
    in.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.guarded sshd
    """
    return [control.id for control in _family(family, saltenv).controls.values() if control.guarded]


def _family(name, saltenv):
    families = _baseline(saltenv).families
    if name not in families:
        raise CommandExecutionError(f"no family {name!r}; known are {', '.join(families)}")
    return families[name]


def _contradictions(baseline, saltenv):
    """What the enabled families say of settings that are each well-formed and yet do not go
    together.
    """
    return [
        problem
        for name, family in baseline.families.items()
        if family.settings["enabled"] and _offers(name, "problems")
        for problem in __salt__[f"{name}.problems"](saltenv=saltenv)
    ]


def _offers(name, function):
    """Whether the module of a family has a function. Asked for one that is missing, Salt's loader
    would look into every module there is, which takes longer than all the rest of a run.
    """
    return function in inspect.unwrap(__salt__[f"{name}.drift"]).__globals__


def validate(saltenv=None):
    """
    Checks the pillar and the catalogue of this minion without touching anything.

    Returns ``{"valid": bool, "problems": [sentences], "warnings": [...], "roles": [...], "waivers":
    {id: last day}}``; the return code is 1 when there is a problem.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.validate
    """
    try:
        baseline = source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)
        problems = _contradictions(baseline, saltenv)
    except RocksaltError as error:
        problems = getattr(error, "problems", [str(error)])
    if problems:
        __context__["retcode"] = 1
        return {"valid": False, "problems": problems}
    return {
        "valid": True,
        "problems": [],
        "warnings": advice(baseline, __pillar__.get("hardening") or {}),
        "roles": list(baseline.roles),
        "waivers": {i: waiver.expires.isoformat() for i, waiver in baseline.waivers.items()},
    }


def prepare(saltenv=None):
    """
    Called by every SLS of the baseline while it renders: validates the settings of all families
    together, so that a mistake stops the run before anything is touched, and keeps them for the day
    when the master is away (except in test mode, which changes nothing).

    Returns ``{family: whether it is enabled}`` in the order in which they are enforced; empty when
    the settings are invalid, whereupon the SLS includes ``hardening.refused``.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.prepare
    """
    __context__["rocksalt.foreseen"] = []
    try:
        baseline = _baseline(saltenv)
        problems = _contradictions(baseline, saltenv)
        if problems:
            raise CommandExecutionError(str(InvalidSettings(problems)))
    except CommandExecutionError as error:
        __context__["rocksalt.refused"] = str(error)
        return {}
    name = saltenv or __opts__.get("saltenv") or "base"
    stored = __context__.get("rocksalt.stored") == (name, baseline.time)
    if baseline.source == "live" and not stored and not __opts__.get("test"):
        source.store(baseline, __opts__, name)
        __context__["rocksalt.stored"] = (name, baseline.time)
    return {name: family.settings["enabled"] for name, family in baseline.families.items()}


def refused():
    """
    Why :func:`prepare` gave nothing in this run. For ``hardening.refused``; a person asks
    :func:`validate`.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.refused
    """
    return __context__.get("rocksalt.refused", "")


def waivers(saltenv=None):
    """
    The waivers of this host with the days they have left; negative when they are over.

    Returns ``{id: {reason, owner, approver, expires, days_left}}``.

    CLI Example:

    .. code-block:: bash

        salt '*' hardening.waivers
    """
    today = dt.datetime.now(dt.timezone.utc).date()
    return {
        identifier: {
            **vars(waiver),
            "expires": waiver.expires.isoformat(),
            "days_left": (waiver.expires - today).days,
        }
        for identifier, waiver in _baseline(saltenv).waivers.items()
    }
