"""The data sets: what is in them, where they come from, and what a broken file or network says.

MNIST itself is tested where $TINYGRAD_EDU_DATA names a folder that has it; elsewhere, eight images
stand in its place, and a server on this computer in that of the network.
"""

import doctest
import gzip
import hashlib
import http.server
import importlib.resources
import math
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

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
    # The means that Fisher's table gives for each species, in cm.
    assert [X[y == k].mean(axis=0).round(3).tolist() for k in range(3)] == [
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
    # No row is lost, none is doubled.
    rows = sorted(map(tuple, np.concatenate([data.X_train, data.X_test]).tolist()))
    assert rows == sorted(map(tuple, np.concatenate([datasets.iris().X_train, datasets.iris().X_test]).tolist()))


def test_iris_standardized_by_the_training_part() -> None:
    raw, data = datasets.iris(), datasets.iris(standardize=True)
    np.testing.assert_allclose(data.X_train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(data.X_train.std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(
        data.X_test * raw.X_train.std(axis=0) + raw.X_train.mean(axis=0), raw.X_test, rtol=1e-12
    )
    assert raw.feature_names[2] == "petal length (cm)"
    assert data.feature_names[2] == "petal length"


@pytest.mark.parametrize("make", [datasets.digits, datasets.iris])
def test_same_seed_same_bits(make) -> None:
    state = random.getstate()
    a, b, other = make(seed=3), make(seed=3), make(seed=4)
    assert random.getstate() == state
    for part in ("X_train", "y_train", "X_test", "y_test"):
        assert getattr(a, part).tobytes() == getattr(b, part).tobytes() != getattr(other, part).tobytes()


def test_the_split_of_the_digits_stays() -> None:
    data = datasets.digits()
    assert (
        hashlib.md5(data.X_train.tobytes() + data.y_test.tobytes()).hexdigest()
        == "8b1b5a546ee359d7c57a9cad4721559d"
    )


@pytest.mark.parametrize("test_share", [0, 1, -0.5, 1.5, math.nan, 1e-9, 1 - 1e-9])
@pytest.mark.parametrize("make", [datasets.digits, datasets.iris])
def test_a_share_that_leaves_nothing(make, test_share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1 and leaves examples on both sides"):
        make(test_share=test_share)


def test_every_shipped_file_is_attributed() -> None:
    folder = importlib.resources.files("tinygrad_edu.datasets") / "data"
    names = {file.name for file in folder.iterdir()} - {"ATTRIBUTION.md"}
    assert names == {"digits.csv.gz", "iris.csv", "names.txt"}
    rows = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8").splitlines()
    for name in names:
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
        assert ("MIT" if name == "names.txt" else "CC BY 4.0") in row
        assert ("https://github.com/" if name == "names.txt" else "https://doi.org/") in row


def test_only_numpy_is_imported() -> None:
    code = (
        "import sys, tinygrad_edu.datasets; print({'pooch', 'requests', 'tqdm', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


# --- made from a seed ----------------------------------------------------------------------------------------


def test_the_bits_of_the_moons_stay() -> None:
    X, y = datasets.moons(100, 0.1, 0)
    assert hashlib.md5(repr((X, y)).encode()).hexdigest() == "8bce60353003e7382993b78e80e70f79"


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


def test_the_noise_of_the_spirals() -> None:
    clean, noisy = (np.array(datasets.spirals(3000, noise=noise)[0]) for noise in (0.0, 0.02))
    assert (noisy - clean).std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("wrong", [{"n": 2}, {"classes": 1}, {"noise": -0.1}])
def test_spirals_that_cannot_be(wrong) -> None:
    with pytest.raises(ValueError, match="spirals needs 2 classes or more"):
        datasets.spirals(**wrong)


# --- shown ---------------------------------------------------------------------------------------------------


def test_the_example_in_the_documentation() -> None:
    assert doctest.testmod(sys.modules[datasets.Dataset.__module__]) == (0, 2)


def test_a_table_is_shown() -> None:
    data = datasets.iris()
    text = data.show(2)
    assert repr(text) == str(text)
    header, *rows = text.splitlines()
    assert header.split("  ") == [
        "sepal length (cm)",
        "sepal width (cm)",
        "petal length (cm)",
        "petal width (cm)",
        "class",
    ]
    assert [row.split()[-1] for row in rows] == [data.class_names[k] for k in data.y_train[:2]]
    assert [[float(x) for x in row.split()[:-1]] for row in rows] == data.X_train[:2].tolist()


def test_images_are_shown() -> None:
    image = np.zeros((1, 4))
    image[0] = 0.0, 0.3, 0.7, 1.0
    y = np.array([1])
    small = datasets.Dataset("dots", image, y, image, y, ("off", "on"), (2, 2))
    assert repr(small.show()) == "on\n  ░░\n▓▓██"
    tall = np.zeros((2, 3 * 20))
    tall[:, :20] = 1.0  # the first of three rows: half of the ink of the first line, none in the second
    large = datasets.Dataset("bars", tall, np.array([0, 1]), tall, np.array([0, 1]), ("a", "b"), (3, 20))
    assert large.show() == f"a{' ' * 21}b\n{'▒' * 20}  {'▒' * 20}\n"


@pytest.mark.parametrize("n", [1, 7, 10**6])
def test_at_most_n_are_shown(n: int) -> None:
    data = datasets.iris()
    assert len(data.show(n).splitlines()) == 1 + min(n, 100)
    data = datasets.digits()
    assert len(data.show(min(n, 7)).split("\n\n")) == (2 if n > 5 else 1)
    assert max(map(len, data.show(7).splitlines())) <= 96


def test_show_needs_a_number() -> None:
    with pytest.raises(ValueError, match="n of 1 or more, got 0"):
        datasets.iris().show(0)


def test_columns_without_names() -> None:
    x, y = np.array([[1.5]]), np.array([0])
    assert repr(datasets.Dataset("one", x, y, x, y, ("a",), (1,)).show()) == "       x0  class\n      1.5  a"


def encode(array: np.ndarray) -> bytes:
    """The IDX file of an array, written from the description of the format."""
    code = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[array.dtype.str[1:]]
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, code, array.ndim]) + lengths + array.astype(array.dtype.newbyteorder(">")).tobytes()


# --- MNIST, with eight images in its place ---------------------------------------------------------------------


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Five images to train and three to test, their checksums the expected ones; no folder has them, no mirror."""
    rng = np.random.default_rng(0)
    content = {}
    for name in fetched.FILES:
        n = 5 if "train" in name else 3
        array = rng.integers(256, size=(n, 28, 28)) if "images" in name else rng.integers(10, size=n)
        content[name] = encode(array.astype("u1"))
    monkeypatch.setattr(
        fetched, "FILES", {name: (len(data), hashlib.md5(data).hexdigest()) for name, data in content.items()}
    )
    monkeypatch.setattr(fetched, "MIRRORS", ())
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("TINYGRAD_EDU_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
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


def test_the_first_few(files: dict[str, bytes], tmp_path: Path) -> None:
    everything, few = datasets.mnist(put(tmp_path, files)), datasets.mnist(tmp_path, limit=4)
    assert (few.X_train == everything.X_train[:4]).all()
    assert few.y_train.tolist() == everything.y_train[:4].tolist()
    assert len(few.X_test) == len(few.y_test) == 3
    with pytest.raises(ValueError, match="1 or more, or None for all, got 0"):
        datasets.mnist(tmp_path, limit=0)


def test_where_it_is_looked_for(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place holds a truncated file, so that the error tells which one was read."""
    cut = {name: data[:-1] for name, data in files.items()}
    places = [tmp_path / "root", tmp_path / "root" / "mnist", tmp_path / "env", tmp_path / "env" / "mnist"]
    places += [tmp_path / "cache" / "tinygrad_edu", tmp_path / "cache" / "tinygrad_edu" / "mnist"]
    monkeypatch.setenv("TINYGRAD_EDU_DATA", str(tmp_path / "env"))
    for place in reversed(places):
        put(place, cut)
        with pytest.raises(ValueError, match="the file has 3,935") as caught:
            datasets.mnist(tmp_path / "root")
        first = place / "train-images-idx3-ubyte.gz"
        assert str(caught.value) == (
            f"{first} is not MNIST's train-images-idx3-ubyte: that has 3,936 bytes unpacked, the file has 3,935. "
            "Delete it and call mnist() again, or name the folder with MNIST's four files by mnist(root) or "
            "$TINYGRAD_EDU_DATA."
        )
    put(tmp_path / "root", files, packed=False)  # an unpacked file goes before the packed one beside it
    assert len(datasets.mnist(tmp_path / "root").X_train) == 5


def test_a_whole_file_with_a_wrong_pixel(files: dict[str, bytes], tmp_path: Path) -> None:
    name = "t10k-images-idx3-ubyte"
    put(tmp_path, files | {name: files[name][:-1] + b"\7"})
    with pytest.raises(ValueError, match=f"{name}.gz is not MNIST's {name}: the MD5"):
        datasets.mnist(tmp_path)


@pytest.mark.parametrize("at", [3, 10, -6, None])  # in the header, the compressed bytes, their checksum; cut
def test_a_corrupt_gzip_file(files: dict[str, bytes], tmp_path: Path, at: int | None) -> None:
    name = "train-images-idx3-ubyte"
    put(tmp_path, files)
    data = bytearray((tmp_path / f"{name}.gz").read_bytes())
    if at is None:
        del data[-20:]
    else:
        data[at] ^= 0xFF
    (tmp_path / f"{name}.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"is a truncated or corrupt gzip file \(.*\)\. Delete it"):
        datasets.mnist(tmp_path)


def test_a_gzip_bomb_takes_no_memory(files: dict[str, bytes], tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte"
    put(tmp_path, files)
    block = gzip.compress(bytes(2**24))
    (tmp_path / f"{name}.gz").write_bytes(block * 100)  # 1.6 GB unpacked
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{name}.gz is not MNIST's {name}: that has 3,936 bytes .* has more"):
            datasets.mnist(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
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


class Server(http.server.ThreadingHTTPServer):
    """A mirror on this computer; what it has is in `content`, and what was asked of it in `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = 0  # how many bytes of each file are promised, and not sent
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        self.server.asked.append(name)
        data = self.server.content.get(name)
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write((data or b"")[: len(data or b"") - self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        server.content = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
        monkeypatch.setattr(fetched, "MIRRORS", (server.url,))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_downloaded_once(mirror: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = datasets.mnist()
    assert mirror.asked == [f"{name}.gz" for name in fetched.FILES]
    assert left(tmp_path) == sorted(mirror.asked)
    assert "100%" in capsys.readouterr().err  # the progress bar
    b = datasets.mnist()
    assert len(mirror.asked) == 4
    assert a.X_train.tobytes() == b.X_train.tobytes()


def test_only_what_is_missing_is_downloaded(mirror: Server, files: dict[str, bytes], tmp_path: Path) -> None:
    *found, missing = files
    put(tmp_path / "root", {name: files[name] for name in found})
    assert len(datasets.mnist(tmp_path / "root").y_test) == 3
    assert mirror.asked == [f"{missing}.gz"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("gone", "404 Client Error"),
        ("cut", "IncompleteRead"),
        ("truncated", "the download is a truncated or corrupt gzip file"),
        ("another", "the download is not MNIST's train-images-idx3-ubyte: the MD5"),
        (
            "page",
            "the download is not MNIST's train-images-idx3-ubyte: that has 3,936 bytes unpacked, the file has 42",
        ),
        ("off", r"127.0.0.1:\d+/: \[(Errno|WinError) "),
    ],
)
def test_a_broken_download_leaves_nothing(mirror: Server, tmp_path: Path, fault: str, message: str) -> None:
    name = "train-images-idx3-ubyte.gz"
    good = mirror.content[name]
    if fault == "gone":
        del mirror.content[name]
    elif fault == "cut":
        mirror.cut = 100
    elif fault == "truncated":
        mirror.content[name] = good[:-100]
    elif fault == "another":
        mirror.content[name] = gzip.compress(encode(np.zeros((5, 28, 28), "u1")))
    elif fault == "page":
        mirror.content[name] = b"<html>Please log in to this network</html>"
    else:
        mirror.server_close()
    with pytest.raises(FileNotFoundError, match=message) as caught:
        datasets.mnist()
    assert f"{tmp_path / 'cache' / 'tinygrad_edu' / 'mnist'})" in str(caught.value)
    assert mirror.url in str(caught.value)
    assert str(caught.value).endswith(
        "Check the network, or name the folder with MNIST's four files by mnist(root) or $TINYGRAD_EDU_DATA."
    )
    assert left(tmp_path) == []
    if fault != "off":
        mirror.content[name], mirror.cut = good, 0
        assert len(datasets.mnist().X_train) == 5


def test_without_download_the_network_is_left_alone(mirror: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"was not found .*: name the folder .*, or leave download=False out"
    ):
        datasets.mnist(download=False)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pooch", None)
        with pytest.raises(FileNotFoundError, match=r"was not found .*: name the folder"):
            datasets.mnist(download=False)
    assert not mirror.asked
    assert len(datasets.mnist().X_train) == len(datasets.mnist(download=False).X_train) == 5


def test_the_next_mirror(mirror: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as empty, monkeypatch.context() as patch:
        patch.setattr(fetched, "MIRRORS", (f"{empty.url}gone/", mirror.url))
        threading.Thread(target=empty.serve_forever, args=(0.01,)).start()
        assert len(datasets.mnist().X_train) == 5
        empty.shutdown()
    assert len(empty.asked) == len(mirror.asked) == 4


def test_the_mirrors_are_secure() -> None:
    assert all(url.startswith("https://") and url.endswith("/mnist/") for url in fetched.MIRRORS)


@pytest.mark.skipif("TINYGRAD_EDU_DATA" not in os.environ, reason="$TINYGRAD_EDU_DATA names no folder with MNIST")
def test_mnist_itself() -> None:
    data = datasets.mnist()
    assert data.X_train.shape == (60_000, 784)
    assert data.X_test.shape == (10_000, 784)
    assert (data.X_train.min(), data.X_train.max()) == (0.0, 1.0)
    assert data.X_train.mean() == pytest.approx(0.1307, abs=1e-4)  # the mean and deviation that everyone uses
    assert data.X_train.std() == pytest.approx(0.3081, abs=1e-4)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
