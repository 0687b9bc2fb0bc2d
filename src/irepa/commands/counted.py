"""What has been counted of networks before, by all that a count depends on, in a file beside Python's own compiled files.

Building an encoder and running it, even without storage, takes half a second, and a tier of the paper's size has sixty. A count
follows from the settings that it was made with, the code that builds the network, and the versions of the libraries.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from irepa.commands import describe
from irepa.config import plugins
from irepa.errors import IrepaError
from irepa.pipeline.files import sha256, write_json
from irepa.pipeline.runner import RECORDED_PACKAGES, version
from irepa.pipeline.sources import code_digest

Facts = TypeVar("Facts")
LIBRARIES = [package for package in RECORDED_PACKAGES if package != "irepa"]  # whose own code counts by what it says


class Counted:
    """The counts in a file, which need not be there; where it cannot be written nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(importlib.util.cache_from_source(__file__)).with_suffix(".json")
        self.same = [sha256(Path(str(describe.__file__))), *(f"{name} {version(name)}" for name in LIBRARIES)]
        self.known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            self.known = dict(json.loads(self.path.read_bytes()))

    def of(self, kind: type[Facts], asked: Any, built_by: tuple[str, str], count: Callable[[], Facts]) -> Facts:
        """What ``count()`` gives, which is run only where it has not been asked before.

        Args:
            kind: the type of what is counted, which JSON can hold.
            asked: everything in the settings that it depends on, as JSON takes it.
            built_by: kind and name of the plug-in that builds the network.

        Raises as ``count``.
        """
        from pydantic import TypeAdapter, ValidationError

        code = code_digest(frozenset({plugins.module_name(*built_by)}))
        key = hashlib.sha256(json.dumps([built_by, asked, code, self.same], sort_keys=True).encode()).hexdigest()
        adapter = TypeAdapter(kind)
        with contextlib.suppress(KeyError, ValidationError):
            return adapter.validate_python(self.known[key])
        facts = count()
        self.known[key] = adapter.dump_python(facts, mode="json")
        return facts

    def keep(self) -> None:
        """Write what has been counted, once for all, because each write waits for the disk."""
        with contextlib.suppress(OSError, IrepaError):  # a checkout that may only be read
            write_json(self.path, self.known)
