"""The execution module of the family sample, whose host is a folder of text files: ``greeting``,
``password`` and ``door`` belong to the baseline; ``signature``, ``kernel`` and ``key`` to people.
Where there is a file ``fog``, nothing can be seen.
"""

from pathlib import Path

from salt.exceptions import CommandExecutionError

from rocksalt import source
from rocksalt.findings import Seen, judge

OURS = ("greeting", "password", "door")


def _look(saltenv):
    baseline = source.load(__salt__, __opts__, __pillar__, __grains__, __context__, saltenv)
    settings = baseline.families["sample"].settings
    files = Path(settings["folder"])
    texts = {file.name: file.read_text() for file in files.iterdir() if file.is_file()}
    if "fog" in texts:
        raise CommandExecutionError("the sample cannot be seen: there is fog")
    return baseline, settings, files, texts


def drift(saltenv=None):
    baseline, settings, _, texts = _look(saltenv)
    expected = {
        "SAMPLE-001": settings["greeting"],
        "SAMPLE-002": "the declared one",
        "SAMPLE-003": "signed",
        "SAMPLE-004": "new",
        "SAMPLE-005": "closed",
    }
    declared = texts.get("password") == settings["password"]
    seen = {
        "SAMPLE-001": Seen(texts.get("greeting")),
        "SAMPLE-002": Seen("the declared one" if declared else "another one"),
        "SAMPLE-003": Seen(texts.get("signature")),
        "SAMPLE-004": Seen(texts.get("kernel")),
        "SAMPLE-005": Seen(texts.get("door")),
    }
    return judge(baseline, "sample", expected, seen)


def safe(saltenv=None):
    texts = _look(saltenv)[3]
    reason = "the key fits" if "key" in texts else "nobody has a key"
    return {"safe": "key" in texts, "reason": reason}


def enforce(ids, saltenv=None):
    _, settings, folder, _ = _look(saltenv)
    if settings["failing"] == "fog":
        (folder / "fog").write_text("thick")
    if settings["failing"] in ("refuse", "fog"):
        raise CommandExecutionError("the sample does not want to; everything is as it was")
    if settings["failing"] == "enforce":
        return
    wanted = {
        "SAMPLE-001": ("greeting", settings["greeting"]),
        "SAMPLE-002": ("password", settings["password"]),
        "SAMPLE-005": ("door", "closed"),
    }
    if settings["failing"] == "uncover" and "SAMPLE-001" in ids:
        (folder / "password").unlink()
    for identifier in ids:
        name, text = wanted[identifier]
        (folder / name).write_text(text)


def clean(test=False):
    _, settings, folder, _ = _look(None)
    found = [str(folder / name) for name in OURS if (folder / name).exists()]
    if not test:
        if settings["failing"] == "refuse":
            raise CommandExecutionError("the sample does not want to; everything is as it was")
        for path in found:
            Path(path).unlink()
    return found
