"""Whether lines that were removed from the beginning of a chain may be gone.

The log server signs what it removes, which whoever is root there can do too. So the witness has to
have seen the end of that as many days ago as lines are kept, or a day less, as they go by whole
days. What was gone before its first entry it cannot know: that entry says where each chain began
then, and no other removal is taken for one of before. Each entry says for how many days lines are
kept: where those are more now, what was removed is judged by the most that was said from when the
witness saw the lines until it was told that they were gone.
"""

from __future__ import annotations

from bisect import bisect_left

from rocksalt.backup import names
from rocksalt.logstash.receiving import files
from rocksalt.logstash.receiving.begins import Begins
from rocksalt.logstash.receiving.evidence import Evidence, Seen

Judged = tuple[list[str], list[str]]


def judge(found: Begins, seen: Seen, evidence: Evidence, days: int) -> Judged:
    """What is wrong with where the chain of a host begins, and what is to be noted: sentences."""
    if not evidence.times:
        return [], []
    n, index = found.n, bisect_left(seen.numbers, found.n)
    wrong = []
    known = seen.before[1] if n == seen.before[0] else found.hash
    if index < len(seen.numbers) and seen.numbers[index] == n:
        known = seen.hash(index)
    if known != found.hash:
        wrong.append(f"{files.BEGINS} has another hash of line {n} than the witness")
    if _is_of_before(n, seen, evidence, index):
        return wrong, []
    if index == len(seen.numbers):
        last = seen.numbers[-1] if seen.numbers else 0
        return [*wrong, f"the lines after {last} up to {n} were removed, and not witnessed"], []
    when = evidence.time(seen, index)
    saw = f"the witness saw line {seen.numbers[index]} at {when}"
    age = (names.parsed(evidence.times[-1]) - names.parsed(when)).days
    said = _days(seen, evidence, index, days)
    if age < said - 1:
        early = f"the lines up to {n} were removed before their time"
        return [*wrong, f"{early}: {saw}, and lines are kept for {said} days"], []
    if age < days - 1:
        return wrong, [f"the lines up to {n} were removed when they were kept for {said}"
                       f" days: {saw}"]  # fmt: skip
    return wrong, []


def _is_of_before(n: int, seen: Seen, evidence: Evidence, index: int) -> bool:
    """Whether that was removed before there was a witness. Entries that do not say where chains
    begin leave that open for all lines up to the first that was seen.
    """
    is_open = not seen.numbers or (index == seen.times[0] == 0 and seen.numbers[0] > n)
    if evidence.stated is None:
        return is_open
    return n <= seen.before[0] and (is_open or evidence.stated == 0)


def _days(seen: Seen, evidence: Evidence, index: int, days: int) -> int:
    until = len(evidence.times) if seen.removed is None else seen.removed
    said = evidence.kept(seen.times[index], until)
    return days if said is None else min(days, said)
