"""Checkpoints of a training run, whole or not there: model, EMA, optimizer, random states, step and loss curve."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from irepa.errors import IrepaError, first_line
from irepa.pipeline.files import UNWRITABLE, Record, describe_file, write_json

RECORD = "checkpoint.json"
BRANCH = "to-"


class Checkpoints:
    """The folder of one run's checkpoints.

    Args:
        folder: holds ``step-<k>`` folders, complete ones only; nothing else writes there.
        stamp: what the run is made from; checkpoints of another stamp are thrown away.
        keep: how many are kept, the newest.
        trunk: those of the training that this one leaves, if it is a branch.
    """

    def __init__(self, folder: Path, stamp: str, keep: int = 1, trunk: Checkpoints | None = None) -> None:
        self.folder, self.stamp, self.keep, self.trunk = folder, stamp, keep, trunk

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*"))

    def path(self, step: int) -> Path:
        """Folder of the checkpoint after so many steps."""
        return self.folder / f"step-{step:09d}"

    def branch(self, steps: int) -> Checkpoints:
        """Those of a shorter training, of so many steps, that leaves this one where its learning rate falls."""
        return Checkpoints(self.folder / f"{BRANCH}{steps}", self.stamp, self.keep, self)

    def last_words(self) -> str:
        """Which checkpoint a run that ends here can go on from, for error messages."""
        steps = self.steps()
        if not steps and self.trunk is not None:
            return self.trunk.last_words()
        return f"the last checkpoint is {self.path(steps[-1])}" if steps else "no checkpoint was written"

    def restore(self, accelerator: Accelerator) -> tuple[int, list[dict[str, float]]]:
        """Load the newest checkpoint into what the accelerator has prepared: (steps done, loss curve so far).

        Raises CacheError, naming the file, for a checkpoint that is not what was written.
        """
        if accelerator.is_main_process:
            for step in self.steps():
                path = self.path(step) / RECORD
                if not path.exists() or Record(path).fingerprint != self.stamp:
                    self._discard(step)
            for left in (*self.folder.glob(".unfinished-*"), *self.folder.glob(".discarded-*")):
                shutil.rmtree(left)
        accelerator.wait_for_everyone()
        steps = self.steps()
        if not steps:
            return 0, []
        record = Record(self.path(steps[-1]) / RECORD)
        for name in record.content["files"]:
            record.file(name)
        accelerator.load_state(str(record.path.parent))
        return int(record.metrics["step"]), list(record.metrics["curve"])

    def save(self, accelerator: Accelerator, step: int, curve: list[dict[str, float]]) -> None:
        """Write a checkpoint beside the others, then move it into place, then drop old ones, and those of branches behind it.

        Raises IrepaError where there is no room or no right to write; the last good checkpoint stays.
        """
        target = self.path(step)
        unfinished = self.folder / f".unfinished-{step}"
        try:
            if accelerator.is_main_process:
                self.folder.mkdir(parents=True, exist_ok=True)
            accelerator.wait_for_everyone()
            accelerator.save_state(str(unfinished))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                files = {path.name: describe_file(path) for path in sorted(unfinished.iterdir())}
                metrics = {"step": step, "curve": curve}
                write_json(unfinished / RECORD, {"fingerprint": self.stamp, "metrics": metrics, "files": files})
                os.replace(unfinished, target)
                for old in self.steps()[: -self.keep]:
                    self._discard(old)
                for left in self.folder.glob(f"{BRANCH}*"):
                    shutil.rmtree(left)
            accelerator.wait_for_everyone()
        except (OSError, RuntimeError, SafetensorError, IrepaError) as error:
            free = shutil.disk_usage(self.folder).free
            shutil.rmtree(unfinished, ignore_errors=True)
            if isinstance(error, OSError) and error.errno not in UNWRITABLE:
                raise
            raise IrepaError(
                f"checkpoint at step {step} cannot be written ({_reason(error)}; {free / 2**20:.1f} MiB were free); "
                f"{self.last_words()}"
            ) from error

    def _discard(self, step: int) -> None:
        """Delete a checkpoint; out of the way first, so that a kill in the middle leaves none that looks complete."""
        away = self.folder / f".discarded-{step}"
        os.replace(self.path(step), away)
        shutil.rmtree(away)

    def clear(self) -> None:
        """Delete all of them: the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
