"""The lab host on which Vagrant and Docker run, and the Debian that Docker has there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import vagrant_image
from .system import REPO

if TYPE_CHECKING:
    from .container import Container
    from .lab import Lab

# What the lab adds to its hosts, and a published image has not.
AS_PUBLISHED = """
FROM lab
RUN userdel --remove ops && rm /etc/sudoers.d/ops /etc/systemd/system/salt-*.service
RUN apt-get purge -qq cloud-init
"""


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
    return lab.host(name, ip, vagrant_image.ensure(), options)


def import_debian(host: Container) -> None:
    """Give Docker the lab's own Debian in the place of debian:12, which is out of reach."""
    host.run("tar --one-file-system -C /srv/debian-12 -c . | docker import - lab", timeout=300)
    host.run("docker build --quiet --tag=debian:12 -", input=AS_PUBLISHED, timeout=300)


def clone(host: Container, target: str) -> None:
    """Replace the clone by the repository as it is now, set up as by `scripts/setup 3008`."""
    host.copy_repo(target)
    names = " ".join(str(path.relative_to(REPO)) for path in vagrant_image.PYTHON)
    made_of = f"{{ /usr/bin/python3 --version; sha256sum {names}; }} >/opt/salt/made-of"
    host.run(f"cd {target} && {made_of} && ln -s /opt/salt .venv-3008")
