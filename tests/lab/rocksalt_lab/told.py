"""What a state run changed, in a few lines."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter

MANY = 20  # controls: of more than these a person reads the numbers at most


def changes(text: str) -> str:
    """What a state run changed, said once for hosts where it is the same."""
    hosts: dict[str, list[str]] = {}
    for minion, states in sorted(json.loads(text).items()):
        if not isinstance(states, dict):
            return f"{minion}: {states}"
        failed = [f"FAILED: {s['comment']}" for s in states.values() if s["result"] is False]
        changed = sorted(i for state in states.values() for i in state["changes"])
        done = f"changed: {briefly(changed)}" if changed else "changed nothing"
        hosts.setdefault("; ".join([done, *failed]), []).append(minion)
    lines = (f"{', '.join(names)}: {done}" for done, names in hosts.items())
    return "\n".join(textwrap.fill(line, 92, subsequent_indent="  ") for line in lines)


def briefly(names: list[str]) -> str:
    """What was changed; of many controls how many of each family, by the letters of their ids."""
    controls = [name.rpartition("-")[0] for name in names if re.fullmatch(r"[A-Z0-9]+-\d+", name)]
    if len(controls) <= MANY:
        return " ".join(names)
    others = [name for name in names if not re.fullmatch(r"[A-Z0-9]+-\d+", name)]
    counted = ", ".join(f"{number} {family}" for family, number in Counter(controls).items())
    return f"{len(controls)} controls ({counted}); {' '.join(others)}".removesuffix("; ")
