"""The lab host on which Vagrant and Docker run: an image of its own, with what `make` needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import image
from .system import REPO, step

if TYPE_CHECKING:
    from .container import Container
    from .lab import Lab

HERE = Path(__file__).parent
PACKAGES = HERE / "vagrant-packages.txt"
SETUP = REPO / "requirements/debian.txt"
PYTHON = tuple(REPO / "requirements" / name for name in ("salt-3008.txt", "test.txt", "lint.txt"))


def ensure_image(release: str = "debian-12") -> Path:
    """The root of the image, built if it is not there yet: Vagrant and Docker as Debian has them,
    and in /opt/salt what `scripts/setup 3008` would install.
    """
    files = [Path(__file__), Path(image.__file__), image.INSTALL_SALT, image.PACKAGES, PACKAGES]
    version = image.digest(release, [*files, SETUP, *PYTHON])
    return image.cached(
        f"vagrant-{release}", version, lambda folder, work: _build(folder, work, release)
    )


def boot(lab: Lab, name: str, ip: str) -> Container:
    """Boot the host; /srv/debian-12 is the root of the lab's own image."""
    docker = lab.disk / f"{name}-docker"  # outside of the overlay, which can hold no other
    docker.mkdir()
    options = (
        f"--bind={docker}:/var/lib/docker",
        f"--bind-ro={lab.image}:/srv/debian-12",
        "--capability=all",
        "--system-call-filter=add_key keyctl bpf",
    )
    return lab.host(name, ip, ensure_image(lab.release), options)


def _build(root: Path, work: Path, release: str) -> None:
    lines = SETUP.read_text().splitlines()
    setup = [line.split()[0] for line in lines if line.split()[1:] == ["all"]]
    packages = [*image.words(image.PACKAGES), *image.words(PACKAGES), *setup]
    with step(f"{release} image for Vagrant 1/2: installing Debian, Vagrant and Docker"):
        image.debian(root, image.RELEASES[release], packages, offered=[])
    with step(f"{release} image for Vagrant 2/2: installing what make needs"):
        needed = work / "requirements.txt"
        needed.write_text("\n".join(path.read_text() for path in PYTHON))
        image.python(root, work, needed)
        image.finish(root)
