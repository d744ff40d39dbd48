"""MNIST, which is too large to ship: found on this computer, or downloaded once."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine.refusals import is_count
from .dataset import Dataset

FILES = {  # the MD5 of the unpacked bytes
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
LARGEST = 16 + 60_000 * 28 * 28  # bytes: a file that unpacks to more is not read on
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
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
    if limit is not None and not is_count(limit):
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
    path = _path(name, root, download)
    try:
        return _read(path, name)
    except ValueError as error:
        raise ValueError(f"{path} is {error} Delete it and call mnist() again, or {REMEDY}.") from None


def _read(path: Path, name: str) -> NDArray[np.uint8]:
    """The array in a file: images (n, 28, 28) or labels (n,). Raises ValueError unless it is MNIST's."""
    try:
        with path.open("rb") as file:
            packed = file.peek(2).startswith(b"\x1f\x8b")
            data = (gzip.GzipFile(fileobj=file) if packed else file).read(LARGEST + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"a truncated or corrupt gzip file ({error}).") from None
    checksum = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if checksum != FILES[name]:
        raise ValueError(f"not MNIST's {name}: the MD5 of its bytes is {checksum}, not {FILES[name]}.")
    # The right bytes need no parsing. A header of 16 bytes precedes the images, one of 8 the labels.
    if "images" in name:
        return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)
    return np.frombuffer(data, np.uint8, offset=8)


def _path(name: str, root: str | os.PathLike[str] | None, download: bool) -> Path:
    """Where the file is; it is downloaded if it is nowhere."""
    places = [place for place in (root, os.environ.get(VARIABLE)) if place]
    try:
        import pooch
    except ModuleNotFoundError:
        pooch = None
    else:
        places.append(pooch.os_cache("tinygrad_edu"))
    folders = [Path(place).expanduser() / inside for place in places for inside in ("", "mnist")]
    for path in (folder / file for folder in folders for file in (name, f"{name}.gz")):
        if path.is_file():
            return path
    looked = ", ".join(map(str, folders)) or f"no folder, as neither root nor ${VARIABLE} names one"
    missing = f"{name}[.gz] was not found (looked in {looked})"
    if download and pooch:
        return _download(name, folders[-1], missing)
    if download:
        extra = "to download it takes `pip install 'tinygrad-edu[data]'`: install that, or"
        raise FileNotFoundError(f"{missing}, and {extra} {REMEDY}.")
    raise FileNotFoundError(f"{missing}: {REMEDY}, or leave download=False out.")


def _download(name: str, folder: Path, missing: str) -> Path:
    """Fetch a file from the first mirror that has the right one."""
    import pooch

    path, reasons = folder / f"{name}.gz", []
    for mirror in MIRRORS:
        try:
            pooch.retrieve(mirror + path.name, None, path.name, folder, progressbar=True)
            _read(path, name)
            return path
        except OSError as error:  # requests' errors are OSErrors
            reasons.append(f"{mirror}: {error}")
        except ValueError as error:
            path.unlink()
            reasons.append(f"{mirror}: the download is {error}")
    raise FileNotFoundError(
        f"{missing} and could not be downloaded ({'; '.join(reasons)}). Check the network, or {REMEDY}."
    )
