"""What can go wrong, said in one message: what, where, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager


class IrepaError(Exception):
    """Base of every error that the command line reports as one message, without a traceback, and its exit code.

    Attributes:
        several: the errors that it stands for, where it tells of more than one thing.
    """

    exit_code = 1
    several: tuple[IrepaError, ...] = ()


class ConfigError(IrepaError):
    """The configuration asks for something that does not exist or is out of range."""

    @classmethod
    def unknown(cls, where: str, value: object, allowed: Iterable[str]) -> ConfigError:
        return cls(f"{where}: unknown value {str(value)!r}; allowed are {', '.join(sorted(allowed))}")


class DataError(IrepaError):
    """A dataset or an image that cannot be read."""


class WeightsError(IrepaError):
    """Weights that are missing, do not fit, or make no numbers of an image; the message says how to get others."""


class CacheError(IrepaError):
    """A result file that is missing, truncated, edited or made from other settings."""


class FailedRunError(IrepaError):
    """A run that has no result, which is itself a finding: its record says so, and the others go on."""


class DivergedError(FailedRunError):
    """A number that stopped being finite."""


class PreemptedError(IrepaError):
    """The job was asked to stop and can go on where it was: the exit code is that of a temporary failure (EX_TEMPFAIL)."""

    exit_code = 75


COLOUR = re.compile("\x1b\\[[0-9;]*m")  # some libraries write for a terminal


def first_line(error: Exception) -> str:
    """Why a library could not load something, without the paragraphs that follow."""
    lines = [line.strip() for line in COLOUR.sub("", str(error)).splitlines() if line.strip()]
    # A heading, such as torch's "Error(s) in loading state_dict for SiT:", says nothing without what follows.
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else type(error).__name__


def cause(error: Exception) -> str:
    """The first line of what a library said, after the kind of the error where the words alone say little: ``KeyError: 7``."""
    said, kind = first_line(error), type(error).__name__
    return said if isinstance(error, (OSError, ValueError, RuntimeError)) or said == kind else f"{kind}: {said}"


@contextmanager
def translated(kind: type[IrepaError], what: str, cure: str = "") -> Iterator[None]:
    """The boundary to a library: any exception inside the block becomes an error of the project.

    It says ``what`` could not be done to which file or model, why, and the ``cure``. Errors of the project pass as they are.
    One boundary stands around each reader, encoder, judge, autoencoder and checkpoint. What libraries raise for damaged input
    cannot be listed: a truncated Parquet file alone gives five kinds of exception.
    """
    try:
        yield
    except IrepaError:
        raise
    except Exception as error:
        raise kind(f"{what} ({cause(error)})" + (f"; {cure}" if cure else "")) from error


def of_system(error: OSError) -> IrepaError:
    """What the system refused, with its path: a folder on the way may not be entered, a name is too long, a disk failed."""
    path = "" if error.filename is None else f"{error.filename}: "
    return IrepaError(f"{path}{error.strerror or error}; see that it is there and may be used")


def gather(checks: Iterable[Callable[[], object]]) -> list[IrepaError]:
    """Run every check and return what they raise, so that a user learns of everything at once; the same is told once.

    What the system refuses while a check looks for a file is told as well.
    """
    errors: dict[str, IrepaError] = {}
    for check in checks:
        try:
            check()
        except IrepaError as error:
            errors |= {str(one): one for one in error.several or (error,)}
        except OSError as error:
            told = of_system(error)
            errors[str(told)] = told
    return list(errors.values())


def refuse(errors: Sequence[IrepaError]) -> None:
    """Raise the errors, if there are any, as one: its message has a line for each, its class is theirs if they share one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        kinds = {type(error) for error in errors}
        lines = [f"{len(errors)} things are missing or wrong:"]
        lines += ["- " + str(error).replace("\n", "\n  ") for error in errors]
        joint = (kinds.pop() if len(kinds) == 1 else IrepaError)("\n".join(lines))
        joint.several = tuple(errors)
        raise joint
