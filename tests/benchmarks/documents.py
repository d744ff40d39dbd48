"""How fast microgpt trains as it is published: its functions compiled as written, on names of many lengths.

    python tests/benchmarks/documents.py [--names N] [--quick]

The first figure is one document in a batch of 64 of equal length, with the gradient, beside the same on Values.
The second is one pass over N names, compiling for every length included, in batches of 64 names as they come.
"""

import sys
import time

import common
import numpy as np
from published import MicroGPT

import tinygrad_edu as tg

END = 26


def documents(n):
    names = (common.ROOT / "tinygrad_edu" / "datasets" / "data" / "names.txt").read_text().split()[:n]
    return [[END, *(ord(letter) - ord("a") for letter in name), END] for name in names]


def one_document(model, texts, rounds):
    length = max({len(text) for text in texts}, key=[len(text) for text in texts].count)
    batch = np.array([text for text in texts if len(text) == length][:64])
    step = tg.compile(model.loss, model.params)
    _, gradient = step.value_and_grad(batch[:1])
    started = time.perf_counter()
    model.loss(batch[0].tolist()).backward()
    eager = time.perf_counter() - started
    slopes = np.array([p.grad for p in model.params])
    off = np.abs(gradient - slopes).max() / np.abs(slopes).max()
    if not off <= 1e-12:
        sys.exit(f"The gradients are {off:.1e} apart: there is nothing to time.")
    with step.arrays():
        step.value_and_grad(batch)
        started = time.perf_counter()
        for _ in range(rounds):
            step.value_and_grad(batch)
        compiled = (time.perf_counter() - started) / rounds / len(batch)
    print(f"a document of {length} tokens in a batch of {len(batch)}: {compiled * 1e3:.3f} ms", end="; ")
    print(f"eager {eager * 1e3:.0f} ms")


def training(model, texts):
    started, step = time.perf_counter(), tg.compile(model.loss, model.params)
    with step.train(tg.optim.Adam(model.params, lr=0.01)) as update:
        losses = [update(texts[i : i + 64]) for i in range(0, len(texts), 64)]
    seconds = time.perf_counter() - started
    lengths = len({len(text) for text in texts})
    print(f"{len(texts)} names of {lengths} lengths: {seconds:.1f} s; loss {losses[0]:.2f} -> {losses[-1]:.2f}")


if __name__ == "__main__":
    parser = common.parser_of(__doc__)
    parser.add_argument("--names", type=int, default=1000)
    given = parser.parse_args()
    texts = documents(4 if given.quick else given.names)
    one_document(MicroGPT(), texts, 1 if given.quick else 20)
    training(MicroGPT(), texts)
