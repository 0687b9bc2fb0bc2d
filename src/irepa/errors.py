"""What can go wrong, said in one message: what, where, and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


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
    """Weights of an encoder that are missing or do not fit; the message says how to get them."""


class CacheError(IrepaError):
    """A result file that is missing, truncated, edited or made from other settings."""


class DivergedError(IrepaError):
    """A number that stopped being finite."""


class PreemptedError(IrepaError):
    """The job was asked to stop and can go on where it was: the exit code is that of a temporary failure (EX_TEMPFAIL)."""

    exit_code = 75


def first_line(error: Exception) -> str:
    """Why a library could not load something, without the paragraphs that follow."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def gather(checks: Iterable[Callable[[], object]]) -> list[IrepaError]:
    """Run every check and return what they raise, so that a user learns of everything at once."""
    errors: list[IrepaError] = []
    for check in checks:
        try:
            check()
        except IrepaError as error:
            errors += error.several or (error,)
    return errors


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
