"""What a person sees of a long run."""

from __future__ import annotations

import io

import pytest

from rocksalt.backup.progress import Meter, Step, duration, line, silent, size

MIB = 1 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * MIB // 2, "2.5 MiB"),
     (3 << 40, "3.0 TiB"), (3 << 50, "3072.0 TiB")],
)  # fmt: skip
def test_sizes(count, words):
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (3 * 86400, "3 days")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("step", "seconds", "words"),
    [
        (Step("survey", "operator"), 0, "survey operator"),
        (
            Step("pack", "operator", 1204, 30 * MIB, 5000, 90 * MIB), 10,
            "pack operator: 1,204 of 5,000 files, 30.0 MiB of 90.0 MiB, 3.0 MiB/s, 20 s left",
        ),
        (Step("upload", "far", bytes=MIB, of_bytes=MIB), 1,
         "upload far: 1.0 MiB of 1.0 MiB, 1.0 MiB/s"),
        (Step("upload", "far", bytes=MIB), 0.1, "upload far: 1.0 MiB"),
    ],
)  # fmt: skip
def test_a_line(step, seconds, words):
    assert line(step, seconds) == words


def test_a_terminal_gets_one_line_for_each_phase():
    times = iter([0.0, 0.1, 1.0, 1.1, 2.0])
    terminal = Terminal()
    meter = Meter(terminal, lambda: next(times))
    for step in (
        Step("pack", "operator", bytes=0, of_bytes=4 * MIB),
        Step("pack", "operator", bytes=MIB, of_bytes=4 * MIB),  # too soon after the one before
        Step("pack", "operator", bytes=2 * MIB, of_bytes=4 * MIB),
        Step("upload", "far"),
        Step("upload", "far", bytes=MIB),
    ):
        meter(step)
    meter.close()
    meter.close()
    assert [part.rstrip() for part in terminal.getvalue().replace("\n", "\r").split("\r")] == [
        "",
        "pack operator: 0 B of 4.0 MiB",
        "pack operator: 2.0 MiB of 4.0 MiB, 2.0 MiB/s, 1 s left",
        "",
        "upload far",
        "upload far: 1.0 MiB, 1.1 MiB/s",
        "",
    ]
    assert terminal.getvalue().count("\n") == 2


def test_a_shorter_line_covers_a_longer_one():
    terminal, times = Terminal(), iter([0.0, 1.0])
    meter = Meter(terminal, lambda: next(times))
    meter(Step("pack", "x", files=1000000))
    meter(Step("pack", "x", files=1))
    assert terminal.getvalue().endswith("pack x: 1 files        ")


def test_nobody_else_is_told_anything():
    stream = io.StringIO()
    meter = Meter(stream)
    meter(Step("pack"))
    meter.close()
    silent(Step("pack"))
    assert stream.getvalue() == ""
