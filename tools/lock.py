"""Write requirements.lock: what is installed in this environment, each with the checksums of all its files on the index.

``make lock`` runs it in a fresh environment, into which pip has just resolved ``.[pipeline,dev]``. It asks pip's own index
for the files of every pinned version, so that the lock holds on every platform, and says on standard error which packages
would have to be compiled, for each Python that pyproject.toml admits.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tomllib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
LEFT_OUT = {"pip", "irepa"}  # what installs, and what is installed from the checkout
HEAD = """\
# Written by `make lock`. Versions that are tested together, each with the SHA-256 of all its files: `make` installs these.
# torch pins the CUDA packages that go with it.
"""


def index_url() -> str:
    """The index that pip uses here: its configuration's, or its own default."""
    from pip._internal.models.index import PyPI

    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True
    )
    return (asked.stdout.strip() or PyPI.simple_url).rstrip("/")


def files_of(name: str, version: Version, index: str) -> list[dict[str, Any]]:
    """The files of one version on the index. Exits, naming it, where there is none."""
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(f"{index}/{name}/", headers=accept), timeout=60) as answer:
        listed: list[dict[str, Any]] = json.load(answer)["files"]
    files = [file for file in listed if version_of(file["filename"]) == version and file["hashes"].get("sha256")]
    if not files:
        sys.exit(f"{name} {version}: the index has no file with a checksum")
    return files


def version_of(filename: str) -> Version | None:
    try:
        if filename.endswith(".whl"):
            return parse_wheel_filename(filename)[1]
        return parse_sdist_filename(filename)[1] if filename.endswith((".tar.gz", ".zip")) else None
    except (InvalidVersion, ValueError):  # files of long ago
        return None


def has_wheel(files: list[dict[str, Any]], python: str) -> bool:
    """Whether a wheel for Linux on x86-64 is among the files, for a Python such as ``3.12``."""
    major, minor = python.split(".")
    for file in files:
        if not file["filename"].endswith(".whl"):
            continue
        for tag in parse_wheel_filename(file["filename"])[3]:
            stable = tag.abi == "abi3" and int(tag.interpreter.removeprefix("cp3") or 0) <= int(minor)
            fits = tag.interpreter in (f"cp{major}{minor}", f"py{major}", f"py{major}{minor}", "py2.py3") or stable
            if fits and (tag.platform == "any" or ("linux" in tag.platform and tag.platform.endswith("x86_64"))):
                return True
    return False


def admitted() -> list[str]:
    """The Pythons that pyproject.toml admits."""
    asked = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    return [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.0" in asked]


def main() -> None:
    installed = {canonicalize_name(d.name): Version(d.version) for d in importlib.metadata.distributions()}
    pins = {name: version for name, version in sorted(installed.items()) if name not in LEFT_OUT}
    index = index_url()
    with ThreadPoolExecutor(8) as pool:
        files = dict(zip(pins, pool.map(lambda name: files_of(name, pins[name], index), pins), strict=True))
    entries = []
    for name, version in pins.items():
        checksums = sorted({file["hashes"]["sha256"] for file in files[name]})
        entries.append(" \\\n".join([f"{name}=={version.public}", *(f"    --hash=sha256:{sha}" for sha in checksums)]))
    LOCK.write_text(HEAD + "\n".join(entries) + "\n")
    print(f"{LOCK.name}: {len(pins)} packages", file=sys.stderr)
    for python in admitted():
        compiled = [name for name in pins if not has_wheel(files[name], python)]
        print(f"Python {python}: to be compiled: {', '.join(compiled) or 'nothing'}", file=sys.stderr)


if __name__ == "__main__":
    main()
