"""The data set that is too large to ship: found on this computer, or downloaded once."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import idx
from .dataset import Dataset

FILES = {  # and the MD5 of their unpacked bytes
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
VARIABLE = "TINYGRAD_EDU_DATA"
REMEDY = f"name the folder that has MNIST's four files by mnist(root) or ${VARIABLE}"


def mnist(
    root: str | os.PathLike[str] | None = None, *, limit: int | None = None, download: bool = True
) -> Dataset:
    """MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28 x 28 pixels scaled to 0..1.

    Each of the four IDX files, gzipped or not, is taken from `root`, else from `$TINYGRAD_EDU_DATA`, else from the
    user's cache (in each, also from a folder `mnist`), else downloaded into that cache: 11 MB, once. The last two
    need `pip install 'tinygrad-edu[data]'`. With download=False no network is used. Every file is compared with
    its published checksum.

    X is float64 and takes 440 MB; `limit=1000` gives the first 1,000 of each part, 13 MB. Raises FileNotFoundError
    where a file is nowhere and cannot or may not be downloaded, ValueError where one is truncated, corrupt or not
    MNIST's.
    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits; CC BY-SA 3.0.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is a number of examples of 1 or more, or None for all, got {limit!r}.")
    X_train, y_train, X_test, y_test = (_load(name, root, download)[:limit] for name in FILES)
    return Dataset(
        "mnist",
        X_train.reshape(len(X_train), -1) / 255.0,
        y_train.astype(np.int64),
        X_test.reshape(len(X_test), -1) / 255.0,
        y_test.astype(np.int64),
        tuple("0123456789"),
        (28, 28),
    )


def _load(name: str, root: str | os.PathLike[str] | None, download: bool) -> NDArray[np.uint8]:
    path = _path(name, [place for place in (root, os.environ.get(VARIABLE)) if place], download)
    try:
        return _checked(path.read_bytes(), name, str(path))
    except ValueError as error:
        raise ValueError(f"{error} Delete it and call mnist() again, or {REMEDY}.") from None


def _checked(data: bytes, name: str, source: str) -> NDArray[np.uint8]:
    data = idx.unpack(data, source)
    array = idx.decode(data, source)
    found, expected = hashlib.md5(data, usedforsecurity=False).hexdigest(), FILES[name]
    if found != expected:
        raise ValueError(
            f"{source} is not MNIST's {name}: the MD5 of its unpacked bytes is {found}, not {expected}."
        )
    return array


def _path(name: str, places: list[str | os.PathLike[str]], download: bool) -> Path:
    found = _find(name, places)
    if found is not None:
        return found
    try:
        import pooch
    except ModuleNotFoundError:
        if not download:
            raise FileNotFoundError(f"{_nowhere(name, places)}: {REMEDY}.") from None
        raise FileNotFoundError(
            f"{_nowhere(name, places)}, and to download it takes `pip install 'tinygrad-edu[data]'`: "
            f"install that, or {REMEDY}."
        ) from None
    cache = Path(pooch.os_cache("tinygrad_edu"))
    found, nowhere = _find(name, [cache]), _nowhere(name, [*places, cache])
    if found is None and not download:
        raise FileNotFoundError(f"{nowhere}: {REMEDY}, or leave download=False out.")
    return found or _download(name, cache / "mnist", nowhere)


def _folders(places: Iterable[str | os.PathLike[str]]) -> list[Path]:
    return [Path(place).expanduser() / folder for place in places for folder in ("", "mnist")]


def _find(name: str, places: Iterable[str | os.PathLike[str]]) -> Path | None:
    paths = (folder / file for folder in _folders(places) for file in (name, f"{name}.gz"))
    return next((path for path in paths if path.is_file()), None)


def _nowhere(name: str, places: Iterable[str | os.PathLike[str]]) -> str:
    looked = ", ".join(map(str, _folders(places))) or f"no folder, as neither root nor ${VARIABLE} names one"
    return f"{name}[.gz] was not found (looked in {looked})"


def _download(name: str, folder: Path, nowhere: str) -> Path:
    """Fetch a file from the first mirror that gives the right one; nothing else ever stands under its name."""
    import pooch

    def download(
        url: str, path: str, fetcher: Any
    ) -> None:  # into pooch's temporary file, renamed once this returns
        pooch.HTTPDownloader(progressbar=True)(url, path, fetcher)
        _checked(Path(path).read_bytes(), name, "what came")

    reasons = []
    for mirror in MIRRORS:
        try:
            fetcher = pooch.create(folder, mirror, registry={f"{name}.gz": None})
            return Path(fetcher.fetch(f"{name}.gz", downloader=download))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            reasons.append(f"{mirror}: {_root_cause(error)}")
    raise FileNotFoundError(
        f"{nowhere} and could not be downloaded ({'; '.join(reasons)}). Check the network, or {REMEDY}."
    )


def _root_cause(error: BaseException) -> BaseException:
    """What went wrong at first, "Connection refused", not the three errors that requests wraps it in."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    return error
