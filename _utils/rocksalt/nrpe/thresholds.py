"""Whether the two thresholds of a check make sense together: what is critical has to be a reason
for a warning as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LESS_IS_WORSE = ("check_disk", "check_swap")
MORE_IS_WORSE = (
    *("check_load", "check_procs", "check_users", "check_ping", "check_icmp", "check_http"),
    *("check_file_age", "check_ntp_time", "check_ntp_peer", "check_time", "check_tcp", "check_dns"),
)
BY_SEVERITY = ("check_salt_drift", "check_luks", "check_ossec")
SEVERITIES = ("low", "medium", "high", "critical")
_NUMBER = r"-?\d+(?:\.\d+)?"
_PLAIN = re.compile(rf"({_NUMBER})([^\d:]*)")
_RANGE = re.compile(rf"(@?)(?:(~|{_NUMBER}):)?({_NUMBER})?")
_INFINITE = float("inf")


def crossing(plugin: str, warning: str, critical: str) -> str:
    """Why two thresholds of a plugin, by its name without a folder, do not go together; empty where
    they do or where nobody can tell.
    """
    if plugin in BY_SEVERITY:
        return _severities(warning, critical)
    pairs = zip(warning.split(","), critical.split(","), strict=False)
    wrong = next((pair for pair in pairs if _crosses(plugin, *map(str.strip, pair))), None)
    if not wrong:
        return ""
    low, high = wrong
    return f"warning {low!r} is worse than critical {high!r}: there would be no warning before it"


def _severities(warning: str, critical: str) -> str:
    for given in (warning, critical):
        if given not in SEVERITIES:
            return f"{given!r} is no severity; write one of {', '.join(SEVERITIES)}"
    if SEVERITIES.index(warning) > SEVERITIES.index(critical):
        return f"warning {warning!r} is worse than critical {critical!r}"
    return ""


def _crosses(plugin: str, warning: str, critical: str) -> bool:
    plain = [_PLAIN.fullmatch(text) for text in (warning, critical)]
    if all(plain):
        units = {match[2] for match in plain if match}
        low, high = (float(match[1]) for match in plain if match)
        if len(units) > 1:
            return False
        if plugin in LESS_IS_WORSE:
            return low < high
        return low > high if plugin in MORE_IS_WORSE else False
    fine = [_fine(text) for text in (warning, critical)]
    if None in fine:
        return False
    (inside, *narrow), (also, *wide) = (it for it in fine if it)
    if inside != also:
        return False
    if inside:
        narrow, wide = wide, narrow
    return not (wide[0] <= narrow[0] and narrow[1] <= wide[1])


def _fine(text: str) -> tuple[bool, float, float] | None:
    """A range of the plugins' guidelines: whether what is inside it is bad, and its two ends; None
    for what is no range.
    """
    match = _RANGE.fullmatch(text)
    if not match or not text.strip("@"):
        return None
    start = -_INFINITE if match[2] == "~" else float(match[2] or 0)
    return bool(match[1]), start, float(match[3]) if match[3] else _INFINITE


def problems(plugin: str, warning: str | None, critical: str | None) -> Iterator[str]:
    """What is wrong with the thresholds of one command; plugins of ours have their own."""
    if plugin in BY_SEVERITY:
        warning, critical = warning or "low", critical or "high"
    if warning and critical and (why := crossing(plugin, warning, critical)):
        yield why
