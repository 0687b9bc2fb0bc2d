"""Reference statistics as the ADM suite distributes them: an .npz of moments, and of the images that they are from.

Reading them needs no torch, so that they can be checked before a run starts.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irepa.errors import WeightsError, translated

Statistics = dict[str, NDArray[np.floating]]  # mu (dim,) and sigma (dim, dim)
ASYMMETRY = 1e-4  # of sigma's largest entry: float32 sums in another order stay far below it


def check_reference(path: Path, dim: int | None, spatial_dim: int | None = None) -> None:
    """Refuse reference statistics that would give numbers without meaning; the images in the file are not read.

    ``dim``: width of the judge's features; None: not known yet. ``spatial_dim``: that of its spatial features; None: it has none.
    Raises WeightsError.
    """
    _moments(path, dim)
    if spatial_dim is not None:
        read_spatial(path, spatial_dim)
    _check_images(path)


def read_statistics(path: Path, dim: int | None = None) -> tuple[Statistics, NDArray[np.uint8] | None]:
    """``mu`` and ``sigma`` as float64, and the images ``arr_0`` (n, H, W, 3) uint8, None where the file has none.

    Raises WeightsError as :func:`check_reference` does, and where the images cannot be read.
    """
    moments = _moments(path, dim)
    if not _check_images(path):
        return moments, None
    with _reading(path), np.load(path, allow_pickle=False) as stored:
        return moments, stored["arr_0"]


def read_spatial(path: Path, dim: int) -> Statistics | None:
    """``mu`` and ``sigma`` of spatial features, ``mu_s`` and ``sigma_s`` in the file; None where it has neither: no sFID then.

    Raises WeightsError as :func:`check_reference` does.
    """
    with _reading(path), np.load(path, allow_pickle=False) as stored:
        present = {"mu_s", "sigma_s"} & set(stored)
    return _moments(path, dim, "_s") if present else None


def _reading(path: Path) -> AbstractContextManager[None]:
    return translated(
        WeightsError,
        f"evaluation.references: {path} cannot be read as statistics",
        "it must be an .npz with mu and sigma, as the ADM suite's VIRTUAL_imagenet256_labeled.npz: fetch it again",
    )


def _moments(path: Path, dim: int | None, ending: str = "") -> Statistics:
    """``mu`` and ``sigma``, with this ending to their names in the file, as float64. Raises WeightsError."""
    where = f"evaluation.references: {path}"
    keys = (f"mu{ending}", f"sigma{ending}")
    with _reading(path), path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise WeightsError(f"{where}: it is no whole .npz; one with {' and '.join(keys)} is needed: fetch it again")
        with np.load(stream, allow_pickle=False) as stored:
            if not {*keys} <= {*stored}:
                raise WeightsError(f"{where} has {', '.join(stored) or 'nothing'}; {' and '.join(keys)} are needed")
            reference: dict[str, NDArray[Any]] = {key: stored[key] for key in keys}
    for key, values in reference.items():
        if not np.issubdtype(values.dtype, np.floating):
            raise WeightsError(f"{where}: {key} is {values.dtype}; floating-point numbers are needed")
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise WeightsError(f"{where}: {key} has {bad} of {values.size} values that are NaN or infinite")
    mu, sigma = (values.astype(np.float64) for values in reference.values())
    if mu.shape != (mu.size,) or sigma.shape != (mu.size, mu.size) or mu.size == 0:
        raise WeightsError(
            f"{where}: mu{ending} {mu.shape} and sigma{ending} {sigma.shape}; (dim,) and (dim, dim) are needed"
        )
    if dim is not None and len(mu) != dim:
        raise WeightsError(
            f"{where}: statistics of {len(mu)} dimensions, the judge's features have {dim}: they are another network's"
        )
    variance = sigma.diagonal()
    spread = np.sqrt(variance.clip(min=0))
    slack = ASYMMETRY * np.abs(sigma).max()
    if (
        np.abs(sigma - sigma.T).max() > slack
        or (variance < 0).any()
        or (np.abs(sigma) > np.outer(spread, spread) + slack).any()
    ):
        raise WeightsError(
            f"{where}: sigma{ending} is no covariance: it must be symmetric, with nothing negative on its diagonal and nothing "
            "beyond the product of two standard deviations"
        )
    return {"mu": mu, "sigma": sigma}


def _check_images(path: Path) -> bool:
    """Whether the file has images. Raises WeightsError where they are not (n, H, W, 3) uint8; their header alone is read."""
    with _reading(path), _member(path, "arr_0") as stream:
        if stream is None:
            return False
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(stream)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        hint = "; transpose it to (images, height, width, channels)" if len(shape) == 4 and shape[1] == 3 else ""
        raise WeightsError(
            f"evaluation.references: {path}: arr_0 is {dtype} {shape}; images are uint8 (n, H, W, 3), 0 to 255{hint}, or leave "
            "arr_0 out: then KID, precision and recall are not computed"
        )
    return True


@contextmanager
def _member(path: Path, name: str) -> Iterator[Any]:
    """An array's file inside an .npz, None where there is none."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            yield None
        else:
            with archive.open(f"{name}.npy") as stream:
                yield stream
