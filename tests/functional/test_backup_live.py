"""Salt's own key database, copied while Salt's own code writes to it. Salt 3006 has none."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tarfile

import pytest

from rocksalt.backup.crypto import age
from rocksalt.backup.packing import compress, pack

SLOTS = 200_000
WRITER = f"""
import sys
from salt.utils.mmap_cache import MmapCache
cache = MmapCache(sys.argv[1], size={SLOTS})
number = 0
while True:
    number += 1
    cache.put(f"minion-{{number}}", b"\\x01" + b"key" * 200)
    cache.put("last", str(number))
    if number % 7 == 0:
        cache.delete(f"minion-{{number - 3}}")
    if number == 50:
        print("busy", flush=True)
"""


@pytest.fixture
def written(tmp_path):
    """A folder with a database that another process writes to all the time."""
    folder = tmp_path / "pki"
    folder.mkdir()
    command = [sys.executable, "-c", WRITER, str(folder / ".mmap_keys.idx")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"busy\n"
        yield folder
        assert process.poll() is None
        process.kill()


def restored(folder, tmp_path, number):
    """Packs a folder and unpacks the archive; where the folder is then."""
    identity, recipient = age.generate()
    target, staging = tmp_path / f"archive-{number}", tmp_path / f"staging-{number}"
    done = pack.pack(pack.Part("operator", (str(folder),)), [recipient], target)
    assert done.warnings == []
    plain = age.Reader(io.BytesIO(target.read_bytes()), age.identities(identity))
    with tarfile.open(
        fileobj=compress.Reader(io.BufferedReader(plain), done.compression), mode="r|"
    ) as archive:
        archive.extractall(staging)
    return staging / str(folder)[1:]


if importlib.util.find_spec("salt.utils.mmap_cache"):
    from salt.utils.mmap_cache import MmapCache

    def test_a_key_database_is_whole_although_it_is_written_all_the_time(written, tmp_path):
        for number in range(3):
            folder = restored(written, tmp_path, number)
            cache = MmapCache(str(folder / ".mmap_keys.idx"), size=SLOTS)
            last, keys = int(cache.get("last")), set(cache.list_keys())
            lost = {n for n in range(1, last) if f"minion-{n}" not in keys and (n + 3) % 7}
            assert lost == set()
            assert [key for key in keys if cache.get(key) is None] == []
            assert (folder / ".mmap_keys.idx").stat().st_size == SLOTS * 96
            cache.close()
