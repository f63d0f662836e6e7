"""Make the virtual environment: called by the Makefile with the system's Python and nothing else.

Installs the pinned requirements and the project itself. As root on a machine with apt it also
installs `python3-venv`, where that is missing, and `bubblewrap`; elsewhere it says what is missing.
With `--for-tests` it installs only what tests need beyond that: `chromium`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str) -> None:
    """Run a command, ending this program with its code where it fails."""
    code = subprocess.call(command, cwd=ROOT)
    if code:
        sys.exit(f"bootstrap: {' '.join(command[:4])} … failed with exit code {code}")


def apt_install(package: str) -> bool:
    """Install a Debian package where root and apt are there; tell whether that worked."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.call(install, **quiet) == 0:
        return True
    subprocess.call(["apt-get", "update", "-qq"], **quiet)
    return subprocess.call(install, **quiet) == 0


def install_requirements(python: Path, pip: list[str]) -> None:
    """Install the pinned requirements by uv, which takes a fifth of pip's time, else by pip.

    Index, certificate and the like are told to pip in more ways than uv reads, so what uv cannot
    get is left to pip.
    """
    hashes = ("--require-hashes", "-r", "requirements.lock")
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = re.search(r"^uv==\S+( \\\n +--hash=\S+)+", lock, re.MULTILINE)
    if pinned and _install_only(pip, pinned[0]):
        uv = [str(python.with_name("uv")), "pip", "install", "--quiet", "--compile-bytecode"]
        uv += ["--python", str(python)]
        if subprocess.call([*uv, *hashes], cwd=ROOT) == 0:
            return
        print("bootstrap: uv could not install them, so pip does", flush=True)
    run(*pip, "install", *hashes)


def _install_only(pip: list[str], requirement: str) -> bool:
    """Install one pinned requirement with its hashes; tell whether that worked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirement)
        file.flush()
        return subprocess.call([*pip, "install", "--require-hashes", "-r", file.name]) == 0


def for_tests() -> None:
    """Install what only tests need, or say what they do without."""
    if shutil.which("chromium") is None and not apt_install("chromium"):
        print("bootstrap: chromium is not installed; the dashboard's tests are skipped")


def main() -> None:
    """Make the virtual environment at the path given as the only argument."""
    if sys.argv[1:] == ["--for-tests"]:
        for_tests()
        return
    if sys.version_info < (3, 11):
        have = sys.version.split()[0]
        sys.exit(f"bootstrap: Python 3.11 or newer is needed, this is {have}; set PYTHON=")
    venv = Path(sys.argv[1])
    python = venv / "bin" / "python"
    make_venv = [sys.executable, "-m", "venv", str(venv)]
    if not python.exists() and subprocess.call(make_venv, cwd=ROOT) != 0:
        shutil.rmtree(venv, ignore_errors=True)
        if not apt_install("python3-venv"):
            sys.exit("bootstrap: Python's venv module is missing; install the package python3-venv")
        run(*make_venv)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    print("bootstrap: installing the pinned requirements (about half a minute)", flush=True)
    install_requirements(python, pip)
    run(*pip, "install", "--no-deps", "--no-build-isolation", "--editable", ".")
    if shutil.which("bwrap") is None and not apt_install("bubblewrap"):
        print("bootstrap: bubblewrap is not installed; code steps can use only the monty sandbox")


if __name__ == "__main__":
    main()
