"""The image of the lab host that runs Vagrant: Vagrant and Docker, and what `make` needs."""

from __future__ import annotations

from pathlib import Path

from . import image
from .system import REPO, step

HERE = Path(__file__).parent
RELEASE = "debian-12"  # the last one that has Vagrant
PACKAGES = HERE / "vagrant-packages.txt"
SETUP = REPO / "requirements/debian.txt"
PYTHON = tuple(REPO / "requirements" / name for name in ("salt-3008.txt", "test.txt", "lint.txt"))


def ensure() -> Path:
    """The root of the image, built if it is not there yet; what `scripts/setup 3008` would install
    is in /opt/salt.
    """
    files = [Path(__file__), Path(image.__file__), image.INSTALL_SALT, image.PACKAGES, PACKAGES]
    return image.cached("vagrant", image.digest(RELEASE, [*files, SETUP, *PYTHON]), _build)


def _build(root: Path, work: Path) -> None:
    lines = SETUP.read_text().splitlines()
    setup = [line.split()[0] for line in lines if line.split()[1:] == ["all"]]
    packages = [*image.words(image.PACKAGES), *image.words(PACKAGES), *setup]
    with step("image for Vagrant 1/2: installing Debian, Vagrant and Docker"):
        image.debian(root, image.RELEASES[RELEASE], packages, offered=[])
    with step("image for Vagrant 2/2: installing what make needs"):
        needed = work / "requirements.txt"
        needed.write_text("\n".join(path.read_text() for path in PYTHON))
        image.python(root, work, needed)
        image.finish(root)
