"""MNIST, which is too large to ship: found on this computer, or downloaded once."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset

FILES = {  # the size and the MD5 of the unpacked bytes
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
VARIABLE = "TINYGRAD_EDU_DATA"
REMEDY = f"name the folder with MNIST's four files by mnist(root) or ${VARIABLE}"


def mnist(
    root: str | os.PathLike[str] | None = None, *, limit: int | None = None, download: bool = True
) -> Dataset:
    """MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28 x 28 pixels scaled to 0..1.

    Each of the four IDX files, gzipped or not, is read from `root`, else from `$TINYGRAD_EDU_DATA`, else from the
    user's cache. In each of them a folder `mnist` is searched too. A file that is nowhere is downloaded into the
    cache: 11 MB in all, once. Cache and download need `pip install 'tinygrad-edu[data]'`. With download=False no
    network is used. Every file is compared with its published checksum.

    X is (60000, 784) and (10000, 784), float64, 440 MB; y are class indices. `limit=1000` gives the first 1,000 of
    each part, 13 MB.

    Raises FileNotFoundError if a file is nowhere and cannot or may not be downloaded, ValueError if one is
    truncated, corrupt or not MNIST's.
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
        return _numbers(path, name, str(path))
    except ValueError as error:
        raise ValueError(f"{error} Delete it and call mnist() again, or {REMEDY}.") from None


def _numbers(path: Path, name: str, source: str) -> NDArray[np.uint8]:
    """The array in a file: images (n, 28, 28) or labels (n,). `source` names the file in the ValueError."""
    size, checksum = FILES[name]
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(size + 1)  # a gzip file of 2 MB can hold gigabytes
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{source} is a truncated or corrupt gzip file ({error}).") from None
    if len(data) != size:
        found = f"{len(data):,}" if len(data) < size else "more"
        raise ValueError(
            f"{source} is not MNIST's {name}: that has {size:,} bytes unpacked, the file has {found}."
        )
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise ValueError(f"{source} is not MNIST's {name}: the MD5 of its bytes is {found}, not {checksum}.")
    # The right bytes need no parsing. A header of 16 bytes precedes the images, one of 8 the labels.
    if "images" in name:
        return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)
    return np.frombuffer(data, np.uint8, offset=8)


def _path(name: str, places: list[str | os.PathLike[str]], download: bool) -> Path:
    if found := _find(name, places):
        return found
    try:
        import pooch
    except ModuleNotFoundError:
        extra = (
            ", and to download it takes `pip install 'tinygrad-edu[data]'`: install that, or" if download else ":"
        )
        raise FileNotFoundError(f"{_nowhere(name, places)}{extra} {REMEDY}.") from None
    cache = Path(pooch.os_cache("tinygrad_edu"))
    if found := _find(name, [cache]):
        return found
    nowhere = _nowhere(name, [*places, cache])
    if not download:
        raise FileNotFoundError(f"{nowhere}: {REMEDY}, or leave download=False out.")
    return _download(name, cache / "mnist", nowhere)


def _folders(places: Iterable[str | os.PathLike[str]]) -> list[Path]:
    return [Path(place).expanduser() / folder for place in places for folder in ("", "mnist")]


def _find(name: str, places: Iterable[str | os.PathLike[str]]) -> Path | None:
    paths = (folder / file for folder in _folders(places) for file in (name, f"{name}.gz"))
    return next((path for path in paths if path.is_file()), None)


def _nowhere(name: str, places: Iterable[str | os.PathLike[str]]) -> str:
    looked = ", ".join(map(str, _folders(places))) or f"no folder, as neither root nor ${VARIABLE} names one"
    return f"{name}[.gz] was not found (looked in {looked})"


def _download(name: str, folder: Path, nowhere: str) -> Path:
    """Fetch a file from the first mirror that has the right one. A wrong one never gets its name."""
    import pooch

    # Into pooch's temporary file, which gets its name when this returns.
    def download(url: str, path: str, fetcher: Any) -> None:
        pooch.HTTPDownloader(progressbar=True)(url, path, fetcher)
        _numbers(Path(path), name, "the download")

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
    """The first error, "Connection refused", not the three errors that requests wraps around it."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    return error
