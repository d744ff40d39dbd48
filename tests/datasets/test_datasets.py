"""The data sets: what is in them, where they come from, and what a broken file or download says.

MNIST itself is tested where $TINYGRAD_EDU_DATA names a folder that has it; elsewhere, eight images
stand in its place, and a folder in that of the network.
"""

import gzip
import hashlib
import importlib.resources
import math
import random
import sys
import tracemalloc
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pooch
import pytest

from tinygrad_edu import datasets
from tinygrad_edu.datasets import fetched


# --- shipped -------------------------------------------------------------------------------------------------
def test_iris_is_fishers() -> None:
    data = datasets.iris()
    assert repr(data) == "Dataset('iris': 100 to train, 50 to test, 4 features, 3 classes)"
    assert data.shape == (4,)
    X = np.concatenate([data.X_train, data.X_test])
    y = np.concatenate([data.y_train, data.y_test])
    assert [X[y == k].mean(axis=0).round(3).tolist() for k in range(3)] == [  # Fisher's means, in cm
        [5.006, 3.428, 1.462, 0.246],
        [5.936, 2.77, 4.26, 1.326],
        [6.588, 2.974, 5.552, 2.026],
    ]
    assert data.y_train.dtype == data.y_test.dtype == np.int64


@pytest.mark.parametrize("test_share", [0.1, 0.2, 1 / 3, 0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_iris_is_split_evenly(test_share: float, seed: int) -> None:
    data = datasets.iris(test_share, seed)
    assert len(data.y_test) == round(150 * test_share)
    for y in (data.y_train, data.y_test):
        counts = np.bincount(y, minlength=3)
        assert counts.max() - counts.min() <= 1
    rows = sorted(map(tuple, np.concatenate([data.X_train, data.X_test]).tolist()))  # none is lost or doubled
    assert rows == sorted(map(tuple, np.concatenate([datasets.iris().X_train, datasets.iris().X_test]).tolist()))


@pytest.mark.parametrize("make", [datasets.digits, datasets.iris])
def test_same_seed_same_bits(make) -> None:
    state = random.getstate()
    a, b, other = make(seed=3), make(seed=3), make(seed=4)
    assert random.getstate() == state
    for part in ("X_train", "y_train", "X_test", "y_test"):
        assert getattr(a, part).tobytes() == getattr(b, part).tobytes() != getattr(other, part).tobytes()


def test_the_bits_of_the_digits_and_the_moons_stay() -> None:
    data = datasets.digits()
    digest = hashlib.md5(data.X_train.tobytes() + data.y_test.tobytes()).hexdigest()
    assert digest == "8b1b5a546ee359d7c57a9cad4721559d"
    X, y = datasets.moons(100, 0.1, 0)
    assert hashlib.md5(repr((X, y)).encode()).hexdigest() == "8bce60353003e7382993b78e80e70f79"


def test_iris_standardized_by_the_training_part() -> None:
    raw, data = datasets.iris(), datasets.iris(standardize=True)
    mean, deviation = raw.X_train.mean(axis=0), raw.X_train.std(axis=0)
    np.testing.assert_allclose(data.X_train * deviation + mean, raw.X_train, rtol=1e-12)
    np.testing.assert_allclose(data.X_test * deviation + mean, raw.X_test, rtol=1e-12)
    assert (raw.feature_names[2], data.feature_names[2]) == ("petal length (cm)", "petal length")


def test_every_shipped_file_is_attributed() -> None:
    folder = importlib.resources.files("tinygrad_edu.datasets") / "data"
    names = {file.name for file in folder.iterdir()} - {"ATTRIBUTION.md"}
    assert names == {"digits.csv.gz", "iris.csv", "names.txt"}
    rows = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8").splitlines()
    for name in names:
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert ("MIT" if name == "names.txt" else "CC BY 4.0") in row
        assert ("https://github.com/" if name == "names.txt" else "https://doi.org/") in row


# --- made from a seed ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [datasets.moons, datasets.spirals])
def test_a_seed_or_a_generator(make) -> None:
    assert make(20, seed=3) == make(20, rng=3) == make(20, seed=9, rng=random.Random(3)) != make(20, seed=4)
    rng = random.Random(3)
    assert make(20, rng=rng) != make(20, rng=rng)
    with pytest.raises(TypeError, match=r"a seed or a generator such as random.Random\(0\), got '0'"):
        make(20, rng="0")


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_spirals_lie_where_they_should(classes: int) -> None:
    X, y = datasets.spirals(20 * classes, classes, noise=0.0)
    assert y == list(range(classes)) * 20
    for (a, b), k in zip(X, y, strict=True):
        r = math.hypot(a, b)
        angle = math.atan2(b, a) - 4 * r - 2 * math.pi * k / classes
        assert r < 1e-12 or math.cos(angle) == pytest.approx(1)
    assert max(math.hypot(a, b) for a, b in X) == pytest.approx(1)


SHARE, SPIRALS = "between 0 and 1 and leaves examples on both sides", "spirals needs 2 classes or more"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *((lambda s=share: datasets.digits(s), SHARE) for share in (0, 1, -0.5, 1.5, math.nan, 1e-9, "a")),
        (lambda: datasets.iris(1 - 1e-9), SHARE),
        *((lambda x=x: datasets.spirals(*x), SPIRALS) for x in ((2,), (9, 1), (9, 3, -0.1), ("a",), (9, 2, "a"))),
        *((lambda x=x: datasets.moons(*x), "a whole n of 2 or more") for x in ((1,), (9.5,), (9, "a"))),
        *((lambda n=n: datasets.iris().show(n), f"a whole n of 1 or more, got {n!r}") for n in (0, "a")),
        *((lambda n=n: datasets.mnist(limit=n), f"1 or more, or None for all, got {n!r}") for n in (0, "a")),
    ],
)
def test_what_cannot_be(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_images_are_shown() -> None:
    image = np.zeros((1, 4))
    image[0] = 0.0, 0.3, 0.7, 1.0
    y = np.array([1])
    small = datasets.Dataset("dots", image, y, image, y, ("off", "on"), (2, 2))
    assert repr(small.show()) == "on\n  ░░\n▓▓██"
    tall = np.zeros((2, 3 * 20))
    tall[:, :20] = 1.0  # the first of three rows: half of the ink of the first line, none in the second
    large = datasets.Dataset("bars", tall, np.array([0, 1]), tall, np.array([0, 1]), ("a", "b"), (3, 20))
    assert len(datasets.digits().show(7).split("\n\n")) == 2  # rows of images
    assert large.show() == f"a{' ' * 21}b\n{'▒' * 20}  {'▒' * 20}\n"


# --- MNIST, with eight images in its place ---------------------------------------------------------------------
def idx(array: np.ndarray) -> bytes:
    """The IDX file of an array of bytes."""
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.astype("u1").tobytes()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Five images to train and three to test, their checksums the expected ones; no folder has them, no mirror."""
    rng = np.random.default_rng(0)
    content = {}
    for name in fetched.FILES:
        n = 5 if "train" in name else 3
        array = rng.integers(256, size=(n, 28, 28)) if "images" in name else rng.integers(10, size=n)
        content[name] = idx(array)
    checksums = {name: hashlib.md5(data).hexdigest() for name, data in content.items()}
    monkeypatch.setattr(fetched, "FILES", checksums)
    monkeypatch.setattr(fetched, "MIRRORS", ())
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("TINYGRAD_EDU_DATA", raising=False)
    return content


def put(folder: Path, files: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data)) if packed else (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_found_in_root(files: dict[str, bytes], tmp_path: Path, packed: bool) -> None:
    data = datasets.mnist(put(tmp_path, files, packed))
    assert repr(data) == "Dataset('mnist': 5 to train, 3 to test, 784 features, 10 classes)"
    pixels = np.frombuffer(files["train-images-idx3-ubyte"][16:], "u1").reshape(5, 784)
    assert (data.X_train == pixels / 255).all()
    assert data.X_train.dtype == np.float64
    assert data.y_test.tolist() == list(files["t10k-labels-idx1-ubyte"][8:])
    assert data.y_test.dtype == np.int64
    assert len(data.show(3).splitlines()) == 1 + 14


REMEDY = "name the folder with MNIST's four files by mnist(root) or $TINYGRAD_EDU_DATA."


def test_where_it_is_looked_for(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place holds a truncated file, so that the error tells which one was read."""
    cut = {name: data[:-1] for name, data in files.items()}
    roots = [tmp_path / "root", tmp_path / "env", tmp_path / "cache" / "tinygrad_edu"]
    monkeypatch.setenv("TINYGRAD_EDU_DATA", str(tmp_path / "env"))
    name = "train-images-idx3-ubyte"
    for place in [root / inside for root in reversed(roots) for inside in ("mnist", "")]:
        put(place, cut)
        with pytest.raises(ValueError, match="the MD5 of its bytes is") as caught:
            datasets.mnist(tmp_path / "root")
        assert str(caught.value).startswith(f"{place / name}.gz is not MNIST's {name}: the MD5 ")
        assert str(caught.value).endswith(f". Delete it and call mnist() again, or {REMEDY}")
    put(tmp_path / "root", files, packed=False)  # an unpacked file goes before the packed one beside it
    assert len(datasets.mnist(tmp_path / "root").X_train) == 5


@pytest.mark.parametrize("at", [3, 10, -6, None])  # in the header, the compressed bytes, their checksum; cut
def test_a_corrupt_gzip_file(files: dict[str, bytes], tmp_path: Path, at: int | None) -> None:
    path = put(tmp_path, files) / "train-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    if at is None:
        del data[-20:]
    else:
        data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"is a truncated or corrupt gzip file \(.*\)\. Delete it"):
        datasets.mnist(tmp_path)


def test_a_gzip_file_that_unpacks_to_gigabytes_is_not_unpacked(files: dict[str, bytes], tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(2**24)) * 32
    (put(tmp_path, files) / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not MNIST's train-images-idx3-ubyte: the MD5"):
            datasets.mnist(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 * fetched.LARGEST
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("files")
def test_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        datasets.mnist(tmp_path)
    for folder in ("", "mnist", "cache/tinygrad_edu", "cache/tinygrad_edu/mnist"):
        assert str(tmp_path / folder) in str(caught.value)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"looked in no folder, .*pip install 'tinygrad-edu\[data\]'"):
        datasets.mnist()


URLS = ("https://first/", "https://second/")


@pytest.fixture
def network(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a download of each address gives: bytes, or an error. The first mirror has the files."""
    content: dict[str, Any] = {f"{URLS[0]}{name}.gz": gzip.compress(data) for name, data in files.items()}

    def retrieve(url: str, known_hash: Any, fname: str, path: Path, progressbar: bool) -> None:
        data = content.get(url, OSError(f"404 Client Error: {url}"))
        if isinstance(data, OSError):
            raise data
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(data)

    monkeypatch.setattr(fetched, "MIRRORS", URLS)
    monkeypatch.setattr(pooch, "retrieve", create_autospec(pooch.retrieve, side_effect=retrieve))
    return content


def files_in(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("mirror", URLS)
def test_downloaded_once(network: dict[str, Any], mirror: str, tmp_path: Path) -> None:
    for url in list(network):
        network[url.replace(URLS[0], mirror)] = network.pop(url)
    a = datasets.mnist()
    assert files_in(tmp_path) == sorted(f"{name}.gz" for name in fetched.FILES)
    network.clear()
    b = datasets.mnist()
    assert a.X_train.tobytes() == b.X_train.tobytes()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: OSError("Connection refused"), "https://first/: Connection refused; https://second/: 404"),
        (lambda data: data[:-100], "the download is a truncated or corrupt gzip file"),
        (lambda data: gzip.compress(bytes(3936)), "the download is not MNIST's train-images-idx3-ubyte: the MD5"),
        (lambda data: b"<html>Please log in to this network</html>", "the download is not MNIST's train-images"),
    ],
)
def test_a_broken_download_leaves_nothing(network, tmp_path: Path, edit: Any, message: str) -> None:
    url = f"{URLS[0]}train-images-idx3-ubyte.gz"
    good, network[url] = network[url], edit(network[url])
    with pytest.raises(FileNotFoundError, match=message) as caught:
        datasets.mnist()
    assert f"{tmp_path / 'cache' / 'tinygrad_edu' / 'mnist'})" in str(caught.value)
    assert str(caught.value).endswith(f"Check the network, or {REMEDY}")
    assert files_in(tmp_path) == []
    network[url] = good
    assert len(datasets.mnist().X_train) == 5


@pytest.mark.usefixtures("network")
def test_without_download_the_network_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in (pooch, None):
        monkeypatch.setitem(sys.modules, "pooch", library)
        with pytest.raises(FileNotFoundError, match=r"not found .*: name the folder .*, or leave download=False"):
            datasets.mnist(download=False)
    pooch.retrieve.assert_not_called()
