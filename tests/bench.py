"""What the baseline costs a host, against the limits we promise: a table, medians of one run.

Run by ``make bench`` (root): boots a lab with a master and one minion, hardens the minion, and
measures CPU seconds of everything the minion starts, so that a busy machine does not count. What
shipping logs costs is measured in a lab of its own (bench_logs.py), what packing a backup and
keeping the logbook of a master cost on this machine itself (bench_backup.py, bench_logbook.py).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_backup
import bench_logbook
import bench_logs

import runs
from rocksalt_lab import Host, Lab

REPETITIONS = 5

# Prints CPU seconds and the peak of resident memory (KiB) of a command with its children.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(done.stderr if done.returncode else 0)
"""


@dataclass(frozen=True)
class Line:
    """One row: a cost, the limit for it, and what it is the difference of."""

    title: str
    cost: float
    limit: float
    unit: str
    note: str

    def __str__(self) -> str:
        verdict = "ok" if self.cost <= self.limit else "OVER"
        return (
            f"{self.title:<46} {self.cost:>8.2f} {self.limit:>7.2f} {self.unit:<4} {verdict:<4}"
            f"  {self.note}"
        )


class Bench:
    """The jobs to measure, on one minion and its master; one that fails is no measure and stops."""

    def __init__(self, master: Host, minion: Host):
        self.master, self.minion = master, minion
        group = minion.run("systemctl show salt-minion -p ControlGroup --value").stdout.strip()
        self.group = f"/sys/fs/cgroup{group}"

    def job(self, *words: str) -> float:
        """CPU seconds that the running minion and its children spend on a job of the master."""
        before = self._used()
        self.master.run(["salt", self.minion.name, *words], timeout=300)
        return self._used() - before

    def _used(self) -> float:
        stat = self.minion.read(f"{self.group}/cpu.stat")
        return int(stat.split("usage_usec ")[1].split()[0]) / 1e6

    def call(self, *words: str) -> tuple[float, float]:
        """(CPU seconds, peak of resident memory in MiB) of ``salt-call`` with its children."""
        command = ["/opt/salt/bin/python", "-c", MEASURE, "salt-call", *words]
        seconds, kibibytes = self.minion.run(command, timeout=300).stdout.split()
        return float(seconds), int(kibibytes) / 1024

    def resident(self) -> float:
        """Resident memory in MiB of the processes that make up the running minion."""
        pids = self.minion.read(f"{self.group}/cgroup.procs").split()
        sizes = self.minion.run(
            "grep -hs ^Pss: " + " ".join(f"/proc/{pid}/smaps_rollup" for pid in pids), check=False
        ).stdout.split()
        return sum(map(int, sizes[1::3])) / 1024


def prepare(bench: Bench) -> int:
    """Hardens the minion until nothing is left to do; returns how many controls there are."""
    bench.master.write("/srv/rocksalt/salt/nothing.sls", "nothing to do:\n  test.nop: []\n")
    bench.minion.salt_call("saltutil.sync_all")
    for _ in range(2):
        done = bench.minion.salt_call("state.apply", "hardening").value
    changed = [state["__id__"] for state in done.values() if state["changes"]]
    print(f"   states that change something every time: {', '.join(changed) or 'none'}")
    report = bench.minion.salt_call("drift.report").value
    left = [finding["id"] for finding in report["findings"] if finding["status"] == "drift"]
    print(f"   drift that is left on the hardened host: {', '.join(left) or 'none'}")
    return int(report["summary"]["controls"])


def medians(jobs: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The median of every job; they take turns, so that a slow moment hits all alike."""
    seen: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(REPETITIONS):
        for name, job in jobs.items():
            seen[name].append(job())
    return {name: statistics.median(values) for name, values in seen.items()}


def measure(bench: Bench, controls: int) -> Sequence[Line]:
    """Every line of the table."""
    peak: dict[str, list[float]] = {"hardening": [], "nothing": []}

    def call(*words: str) -> Callable[[], float]:
        def once() -> float:
            seconds, memory = bench.call(*words)
            if words[0] == "state.apply":
                peak[words[1]].append(memory)
            return seconds

        return once

    memory_before = bench.resident()
    cpu = medians(
        {
            "ping": lambda: bench.job("test.ping"),
            "report": lambda: bench.job("drift.report"),
            "nothing": lambda: bench.job("state.apply", "nothing"),
            "highstate": lambda: bench.job("state.apply", "hardening"),
            "local ping": call("--local", "test.ping"),
            "local report": call("--local", "drift.report"),
            "call nothing": call("state.apply", "nothing"),
            "call highstate": call("state.apply", "hardening"),
        }
    )
    grown = bench.resident() - memory_before
    added = statistics.median(peak["hardening"]) - statistics.median(peak["nothing"])
    per_control = 1000 * (cpu["report"] - cpu["ping"]) / controls
    return [
        Line("drift.report, per control", per_control, 5, "ms", f"{controls} controls"),
        *(above(cpu, *row) for row in DIFFERENCES),
        Line("peak memory of a highstate above an empty one", added, 50, "MiB", "one process"),
        Line(
            "memory that the running minion keeps", grown, 50, "MiB",
            f"{memory_before:.0f} MiB before {REPETITIONS} rounds",
        ),
    ]  # fmt: skip


RULES = 200
THEIRS = """
a chain to measure with:
  iptables.chain_present: [{name: measured}]
{%% for port in range(10000, %d) %%}
rule {{ port }}:
  iptables.append:
    - chain: measured
    - protocol: tcp
    - dport: {{ port }}
    - jump: ACCEPT
{%% endfor %%}
"""


def packet_filter(bench: Bench) -> list[Line]:
    """Seconds for as many rules of our packet filter, and of Salt's own states for iptables: made,
    and found in place. Ours are IPv4 and IPv6, theirs IPv4.
    """
    services = {f"s{port}": {"tcp": [port]} for port in range(10000, 10000 + RULES // 2)}
    allow: dict[str, list[str]] = {name: ["public"] for name in services}
    firewall = {"services": services, "allow": allow, "confirm_by": []}
    bench.master.write("/srv/rocksalt/salt/theirs.sls", THEIRS % (10000 + RULES))
    runs.set_pillar(bench.master, {"firewall": firewall})
    found = []
    for title in ("made", "found in place"):
        ours = _spent(runs.apply(bench.minion, "hardening.firewall"))
        theirs = _spent(runs.apply(bench.minion, "theirs"))
        note = f"Salt's own states {theirs:.2f} s, ratio {theirs / ours:.0f}"
        found.append(Line(f"{RULES} rules {title}, elapsed", ours, 1.0, "s", note))
    return found


CROWD = 5000


def crowd(bench: Bench) -> Line:
    """CPU seconds of a look at so many accounts with keys, above a job that does nothing."""
    script = Path(__file__).parent / "lab/on_host/crowd.py"
    bench.minion.write("/root/crowd.py", script.read_text())
    bench.minion.run([runs.PYTHON, "/root/crowd.py", str(CROWD)])
    cpu = medians(
        {
            "drift": lambda: bench.call("--local", "--out=quiet", "accounts.drift")[0],
            "ping": lambda: bench.call("--local", "--out=quiet", "test.ping")[0],
        }
    )
    return above(cpu, f"accounts.drift of {CROWD} accounts with keys", "drift", "ping", 1.0)


def _spent(run: runs.Run) -> float:
    """Seconds that a run's states took."""
    assert not run.failed
    return sum(state["duration"] for state in run.states.values()) / 1000


# Title, the job, the job it is compared with, and the limit in CPU seconds.
DIFFERENCES = (
    ("drift.report in a running minion", "report", "ping", 0.5),
    ("drift.report by salt-call above test.ping", "local report", "local ping", 0.5),
    ("highstate above an empty one, running minion", "highstate", "nothing", 1.0),
    ("highstate above an empty one, salt-call", "call highstate", "call nothing", 1.0),
)


def above(cpu: Mapping[str, float], title: str, name: str, base: str, limit: float) -> Line:
    """What a job costs above another."""
    note = f"{cpu[name]:.2f} s and {cpu[base]:.2f} s, ratio {cpu[name] / cpu[base]:.1f}"
    return Line(title, cpu[name] - cpu[base], limit, "s", note)


def main() -> int:
    """Boots, measures, prints."""
    with Lab.start() as lab:
        hosts = lab.salt_cluster(minions=("web1",))
        bench = Bench(hosts["master"], hosts["web1"])
        print("-- hardening the minion ...", flush=True)
        controls = prepare(bench)
        print(f"-- measuring, {REPETITIONS} rounds ...", flush=True)
        lines = [*measure(bench, controls), *packet_filter(bench), crowd(bench)]
    print("-- shipping logs ...", flush=True)
    lines += [Line(*row) for row in bench_logs.rows()]
    print("-- packing backups ...", flush=True)
    lines += [Line(*row) for row in bench_backup.rows()]
    print("-- keeping the logbook ...", flush=True)
    lines += [Line(*row) for row in bench_logbook.rows()]
    print(f"\n{'CPU and memory':<46} {'cost':>8} {'limit':>7}")
    print(*lines, sep="\n")
    over = [line.title for line in lines if line.cost > line.limit]
    print(f"\nover the limit: {'; '.join(over) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
