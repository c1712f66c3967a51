"""An aarch64 Linux in build/aarch64, for tests on a Debian machine that is none: python tools/aarch64.py

Debian's Python for aarch64 is unpacked (nothing is installed, no root is needed), packages come as wheels, and
build/aarch64/bin/python runs them under qemu: a virtual environment to pip and pytest, whose children run, too.
`CMAKE_TOOLCHAIN_FILE=build/aarch64/toolchain.cmake` builds for it with Debian's cross compiler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "build" / "aarch64"
NEEDED = ("apt-get", "dpkg-deb", "qemu-aarch64", "aarch64-linux-gnu-g++")
DEBIAN = ("python3-minimal", "libpython3-stdlib", "libpython3-dev", "libstdc++6")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
TESTING = ("pip", "pytest", "hypothesis")


def main() -> None:
    """Make the folder anew."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        sys.exit(f"error: there is no {', '.join(missing)}; install qemu-user and g++-aarch64-linux-gnu on a Debian")
    shutil.rmtree(FOLDER, ignore_errors=True)
    unpack(download(FOLDER / "apt"), FOLDER / "sysroot")
    version = next((FOLDER / "sysroot" / "usr" / "bin").glob("python3.*[0-9]")).name
    packages(version, FOLDER / "lib" / version / "site-packages")
    environment(version)


def download(place: Path) -> list[Path]:
    """Debian's packages with what they need, through lists of packages of our own: the machine's stay as they are."""
    for name in ("lists/partial", "archives/partial"):
        (place / name).mkdir(parents=True)
    (place / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
        "Dir::State": place,
        "Dir::State::status": place / "status",
        "Dir::Cache": place,
    }
    apt = ["apt-get", "-qq", *(word for item in settings.items() for word in ("-o", f"{item[0]}={item[1]}"))]
    run(*apt, "update")
    run(*apt, "install", "--yes", "--download-only", *DEBIAN)
    return sorted((place / "archives").glob("*.deb"))


def unpack(archives: list[Path], sysroot: Path) -> None:
    """Their files, without their scripts."""
    for archive in archives:
        run("dpkg-deb", "--extract", archive, sysroot)


def packages(version: str, place: Path) -> None:
    """What unmul needs to be built, to run and to be tested: wheels for that Python, of the versions that CI has."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"], *TESTING]
    where = ["--target", place, "--python-version", version.removeprefix("python"), "--only-binary=:all:"]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    run(*pip, *where, *platforms, "-c", REPOSITORY / "constraints.txt", *wanted)


def environment(version: str) -> None:
    """The virtual environment and CMake's description; bin/python comes last and tells that all is there."""
    usr = FOLDER / "sysroot" / "usr"
    (FOLDER / "pyvenv.cfg").write_text(f"home = {usr / 'bin'}\ninclude-system-site-packages = false\n")
    (FOLDER / "toolchain.cmake").write_text(
        "set(CMAKE_SYSTEM_NAME Linux)\n"
        "set(CMAKE_SYSTEM_PROCESSOR aarch64)\n"
        "set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)\n"
        "set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)\n"
        f'set(CMAKE_CXX_FLAGS_INIT "-idirafter {usr / "include"}")\n'  # pyconfig.h, behind the compiler's own headers
    )
    python = FOLDER / "bin" / "python"
    python.parent.mkdir()
    emulator = f'qemu-aarch64 -L "{FOLDER / "sysroot"}" -0 "$0" "{usr / "bin" / version}"'
    python.touch(0o755)
    python.write_text(f'#!/bin/sh\nexec {emulator} "$@"\n')


def run(*command: str | Path) -> None:
    """A step; its failure ends the program with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    if done.returncode != 0:
        sys.exit(f"error: {command[0]} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    main()
