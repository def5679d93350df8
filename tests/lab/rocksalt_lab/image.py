"""The base image of a lab host: a Debian system, Salt in /opt/salt and an offline apt repository.

Built once per Debian release and Salt line and kept in the cache folder under a name that holds
the hash of everything it is made of. Hosts use it as the read-only lower layer of their disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .system import REPO, LabError, cache, locked, remove_tree, sh, step

RELEASES = {"debian-12": "bookworm", "debian-13": "trixie"}
SALT_LINES = ("3008", "3006")

HERE = Path(__file__).parent
ROOTFS = HERE / "rootfs"
DOWNLOAD = HERE / "download-debs.sh"
INSTALL_SALT = HERE / "install-salt.sh"
PACKAGES = HERE / "packages.txt"
REPOSITORY = HERE / "repository.txt"
MACHINE_PACKAGES = HERE / "machine-packages.txt"
NEEDED_BYTES = 6 * 1024**3
KEEP_SECONDS = 14 * 24 * 3600
APT_OPTIONS = re.compile(
    r"^(Acquire::(?:(?:https?|ftp)(?:::\S*)?::(?:Proxy|Ca[A-Z]\w*|Verify\S*)|Check-Valid-Until"
    r'|Check-Date|Retries)\S*) "(.+)";$',
    re.MULTILINE | re.IGNORECASE,
)


def requirements(salt: str) -> Path:
    """The file of exact versions of one Salt line."""
    return REPO / "requirements" / f"salt-{salt}.txt"


def ensure(release: str = "debian-12", salt: str = "3008") -> Path:
    """The root of the image for a release and a Salt line, built if it is not there yet."""
    if release not in RELEASES:
        raise LabError(f"There is no image for {release!r}; choose one of {', '.join(RELEASES)}.")
    if salt not in SALT_LINES:
        raise LabError(f"Salt line {salt!r} is unknown; choose one of {', '.join(SALT_LINES)}.")
    return cached(
        f"{release}-{salt}",
        fingerprint(release, salt),
        lambda folder, work: _build(folder, work, release, salt),
    )


def cached(kind: str, version: str, build: Callable[[Path, Path], None]) -> Path:
    """The folder of an image; if it is not there yet, `build(folder, work)` makes it.

    It is made beside its final place, then renamed: it is there complete or not at all.
    """
    final = cache() / "images" / f"{kind}-{version}"
    with locked(cache() / f"{kind}.lock"):
        if not final.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(final.parent).free < NEEDED_BYTES:
                raise LabError(
                    f"Building a lab image needs 6 GB free on the disk of {final.parent}."
                )
            for abandoned in cache().glob(f"building-{kind}-*"):
                remove_tree(abandoned)
            work = Path(tempfile.mkdtemp(prefix=f"building-{kind}-", dir=cache()))
            try:
                build(work / "image", work)
                (work / "image").rename(final)
            finally:
                remove_tree(work)
        os.utime(final)
        _forget_old(final.parent)
    return final


def fingerprint(release: str, salt: str) -> str:
    """A hash of everything an image is made of; this file is the recipe and part of it."""
    files = [Path(__file__), DOWNLOAD, INSTALL_SALT, PACKAGES, REPOSITORY, MACHINE_PACKAGES]
    files += [requirements(salt), *files_below(ROOTFS)]
    return digest(f"{release} {salt}", files)


def digest(text: str, files: Iterable[Path]) -> str:
    """A short hash of a text and the names and contents of files."""
    digest = hashlib.sha256(text.encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def words(path: Path) -> list[str]:
    """The words of a file without its comment lines."""
    lines = path.read_text().splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def _forget_old(images: Path) -> None:
    """Delete images that no run has used for two weeks and no host is mounted on."""
    mounted = Path("/proc/self/mounts").read_text()
    for folder in images.iterdir():
        unused = time.time() - folder.stat().st_mtime > KEEP_SECONDS
        if unused and f"lowerdir={folder}," not in mounted:
            shutil.rmtree(folder)


def _build(root: Path, work: Path, release: str, salt: str) -> None:
    """Build an image of Debian and Salt."""
    with step(f"{release} image 1/4: installing Debian"):
        offered = [*words(REPOSITORY), *words(MACHINE_PACKAGES)]
        debian(root, RELEASES[release], words(PACKAGES), offered)
    with step(f"{release} image 2/4: installing Salt {salt}"):
        python(root, work, requirements(salt))
    with step(f"{release} image 3/4: making its package repository"):
        _repository(root, work)
    with step(f"{release} image 4/4: finishing"):
        finish(root)


def _mirrors(suite: str) -> list[str]:
    """This machine's own Debian sources with the suite exchanged; none: mmdebstrap's default."""
    found = sh(
        "apt-get",
        "indextargets",
        "--no-release-info",
        "--format",
        "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Identifier: Packages",
    ).stdout.splitlines()
    lines: dict[str, None] = {}
    for uri, release, component in (line.split() for line in found):
        codename, _, pocket = release.partition("-")
        if codename in RELEASES.values() and component == "main":
            lines[f"deb {uri} {suite}{'-' if pocket else ''}{pocket} main"] = None
    return list(lines)


def debian(root: Path, suite: str, packages: list[str], offered: list[str]) -> None:
    """Install the Debian packages and download what an offline repository shall offer, if any."""
    hook = [f"--customize-hook={DOWNLOAD}"] if offered else []
    options = APT_OPTIONS.findall(sh("apt-config", "dump").stdout)
    sh(
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--dpkgopt=force-unsafe-io",
        f"--include={','.join(packages)}",
        *(f'--aptopt={key} "{value}"' for key, value in options),
        *hook,
        suite,
        root,
        *_mirrors(suite),
        env={**os.environ, "REPO_PACKAGES": " ".join(offered)},
    )


def python(root: Path, work: Path, packages: Path) -> None:
    """Make /opt/salt with pip inside the new system, with this machine's pip configuration."""
    keep = re.compile(r"PATH|HOME|(PIP|SSL|XDG_CONFIG)_\w+|\w+_CA_BUNDLE|\w+_proxy", re.IGNORECASE)
    env = {key: value for key, value in os.environ.items() if keep.fullmatch(key)}
    unshare = ("unshare", "--mount", "--propagation=private", "--")
    sh(*unshare, INSTALL_SALT, root, work, packages, *_pip_paths(), env=env)


def _pip_paths() -> list[Path]:
    """What pip reads on this machine: configuration, certificates, local indexes."""
    pip = (sys.executable, "-m", "pip", "config")
    files = re.findall(r"^\s+(/.+), exists: True$", sh(*pip, "debug").stdout, re.MULTILINE)
    values = re.findall(r"(?<![\w:/])(?:file://)?(/[^\s'\",]+)", sh(*pip, "list").stdout)
    paths = {path for path in map(Path, {*files, *values}) if path.exists()}
    # An index in a folder "simple" links to packages beside that folder.
    return sorted({path.parent if path.name == "simple" else path for path in paths})


def _repository(root: Path, work: Path) -> None:
    """Turn /srv/apt into a repository signed by a key that is thrown away afterwards."""
    folder, keyring = root / "srv/apt", root / "usr/share/keyrings/rocksalt-lab.gpg"
    entries = []
    for deb in sorted(folder.glob("*.deb")):
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        fields = sh("dpkg-deb", "--field", deb).stdout
        entries.append(
            f"{fields}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
        )
    packages = folder / "Packages"
    packages.write_text("\n".join(entries))
    digest = hashlib.sha256(packages.read_bytes()).hexdigest()
    date = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime())
    (work / "Release").write_text(
        f"Origin: Rocksalt lab\nLabel: Rocksalt lab\nSuite: lab\nDate: {date}\n"
        f"SHA256:\n {digest} {packages.stat().st_size} Packages\n"
    )
    home = work / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ("gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode=loopback")
    try:
        sh(
            *gpg,
            "--passphrase=",
            "--quick-generate-key",
            "Rocksalt lab",
            "rsa3072",
            "sign",
            "never",
        )
        sh(*gpg, "--output", folder / "InRelease", "--clearsign", work / "Release")
        sh(*gpg, "--output", keyring, "--export")
    finally:
        sh("gpgconf", "--homedir", home, "--kill", "all")
    keyring.chmod(0o644)
    shutil.rmtree(root / "etc/apt/sources.list.d")
    (root / "etc/apt/sources.list.d").mkdir()
    (root / "etc/apt/sources.list").write_text(
        "deb [signed-by=/usr/share/keyrings/rocksalt-lab.gpg] file:/srv/apt ./\n"
    )


def finish(root: Path) -> None:
    """Our own files, the administrator's account, and nothing of the machine that built it."""
    shutil.copytree(ROOTFS, root, dirs_exist_ok=True)
    sh(
        "chroot",
        root,
        "useradd",
        "--create-home",
        "--shell=/bin/bash",
        "--groups=sudo",
        "--password=*",
        "ops",
    )
    sudoers = root / "etc/sudoers.d/ops"
    sudoers.write_text("ops ALL=(ALL:ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    leftovers = ["etc/resolv.conf", "etc/hostname"]
    leftovers += ["etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"]
    leftovers += ["usr/sbin/policy-rc.d", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed"]
    for path in [*(root / name for name in leftovers), *root.glob("etc/ssh/ssh_host_*")]:
        path.unlink(missing_ok=True)
    (root / "etc/machine-id").write_text("")
    (root / "etc/salt").mkdir()
    sh("chroot", root, "apt-get", "update", "-qq")
    root.chmod(0o755)
