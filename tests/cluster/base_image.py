"""The images that exist without a registry: localhost/base:1 (Debian with Python), localhost/pause:1."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from . import cache, oci, versions
from .prerequisites import ensure_programs
from .shell import DOWNLOAD, run, say

# Counts changes to how images are made that no setting below shows.
REVISION = "1"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNNEEDED = (
    "var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale",
)  # fmt: skip


def folder() -> Path:
    """Return where the layouts are."""
    return cache.root() / "images"


def base_layout() -> Path:
    """Return the layout of localhost/base:1, from which the project's images are built."""
    return folder() / "base.oci"


def pause_layout() -> Path:
    """Return the layout of localhost/pause:1, the container that holds a pod's namespaces."""
    return folder() / "pause.oci"


def ensure_base() -> Path:
    """Make the base image unless it is there and whole; return its layout."""
    target, config = base_layout(), {"Env": [f"PATH={PATH}", "PYTHONUNBUFFERED=1"], "Cmd": ["python3"]}
    name, suite = versions.BASE_IMAGE, versions.DEBIAN_SUITE
    key = cache.key_of([], [REVISION, name, suite, *versions.BASE_PACKAGES, *UNNEEDED, str(config)])
    with cache.locked(folder() / "base.lock", "building the base image"):
        if cache.is_current(folder() / "base.stamp", key) and not oci.damage(target):
            return target
        ensure_programs(["debootstrap"])
        say(f"making {name} from Debian {suite} (about 40 s)")
        rootfs = folder() / "base.rootfs"
        shutil.rmtree(rootfs, ignore_errors=True)
        _install_debian(rootfs)
        hidden = ["./dev/*", "./proc/*", "./sys/*"]
        image = oci.Recipe(name, rootfs, config, hidden)
        oci.write_layout(target, image, versions.architecture())
        shutil.rmtree(rootfs)
        cache.write_stamp(folder() / "base.stamp", key, [target / "index.json"])
    return target


def ensure_pause(program: Path) -> Path:
    """Make the pause image from the built `program` unless it is there and whole; return its layout."""
    target, config = pause_layout(), {"Entrypoint": ["/pause"], "User": "65535:65535"}
    key = cache.key_of([program], [REVISION, versions.PAUSE_IMAGE, str(config)])
    with cache.locked(folder() / "pause.lock", "building the pause image"):
        if cache.is_current(folder() / "pause.stamp", key) and not oci.damage(target):
            return target
        rootfs = folder() / "pause.rootfs"
        shutil.rmtree(rootfs, ignore_errors=True)
        rootfs.mkdir(parents=True)
        shutil.copy(program, rootfs / "pause")
        oci.write_layout(target, oci.Recipe(versions.PAUSE_IMAGE, rootfs, config), versions.architecture())
        shutil.rmtree(rootfs)
        cache.write_stamp(folder() / "pause.stamp", key, [target / "index.json"])
    return target


def _install_debian(rootfs: Path) -> None:
    packages, mirror = ",".join(versions.BASE_PACKAGES), debian_mirror()
    run(
        [
            "debootstrap",
            "--variant=minbase",
            f"--include={packages}",
            versions.DEBIAN_SUITE,
            rootfs,
            *([mirror] if mirror else []),
        ],
        env={"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"},
        seconds=DOWNLOAD,  # it tries failed downloads again by itself
    )
    for name in UNNEEDED:
        shutil.rmtree(rootfs / name, ignore_errors=True)
        (rootfs / name).mkdir(parents=True)
    # apt's own folder for half-downloaded files; without it the first `apt-get` in a Dockerfile fails.
    (rootfs / "var/lib/apt/lists/partial").mkdir()
    with (rootfs / "etc/passwd").open("a") as passwd:
        passwd.write("app:x:10001:10001::/home/app:/usr/sbin/nologin\n")
    with (rootfs / "etc/group").open("a") as group:
        group.write("app:x:10001:\n")
    home = rootfs / "home/app"
    home.mkdir(parents=True)
    shutil.chown(home, 10001, 10001)


def debian_mirror() -> str | None:
    """Return the mirror that this machine's apt uses; None leaves the choice to debootstrap."""
    sources = [*sorted(Path("/etc/apt/sources.list.d").glob("*.sources")), Path("/etc/apt/sources.list")]
    for source in sources:
        if source.is_file():
            address = mirror_in(source.read_text())
            if address:
                return address
    return None


def mirror_in(text: str) -> str:
    """Return the first address ending in /debian in an apt source file, or an empty string."""
    found = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
    return found.group(1) if found else ""
