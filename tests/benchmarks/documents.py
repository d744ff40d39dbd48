"""How fast microgpt trains as it is published: its functions compiled as written, on names of many lengths.

    python tests/benchmarks/documents.py [--names N] [--quick]

The first figure is one document in a batch of 64 of equal length, with the gradient, beside the same on Values.
The second is one pass over N names, compiling for every length included, in batches of 64 names as they come.
"""

import common
import numpy as np
from published import MicroGPT

import tinygrad_edu as tg

END = 26


def documents(n):
    names = (common.ROOT / "tinygrad_edu" / "datasets" / "data" / "names.txt").read_text().split()[:n]
    return [[END, *(ord(letter) - ord("a") for letter in name), END] for name in names]


def one_document(model, texts, settings):
    length = max({len(text) for text in texts}, key=[len(text) for text in texts].count)
    batch = np.array([text for text in texts if len(text) == length][:64])
    step = tg.compile(model.loss, model.params)
    value, gradient = step.value_and_grad(batch[:1])
    eager, loss = common.seconds_of(lambda: eager_loss(model, batch[0].tolist()))
    slopes = [p.grad for p in model.params]
    common.compare({"eager": ((loss, slopes), None), "compiled": ((value, gradient), None)}, 1e-12)
    with step.arrays():
        compiled = common.block(lambda: step.value_and_grad(batch), settings.seconds) / len(batch)
    print(f"a document of {length} tokens in a batch of {len(batch)}: {compiled * 1e3:.3f} ms", end="; ")
    print(f"eager {eager * 1e3:.0f} ms")


def eager_loss(model, text):
    loss = model.loss(text)
    loss.backward()
    return loss.data


def training(model, texts):
    def train():
        step = tg.compile(model.loss, model.params)
        with step.train(tg.optim.Adam(model.params, lr=0.01)) as update:
            return [update(texts[i : i + 64]) for i in range(0, len(texts), 64)]

    seconds, losses = common.seconds_of(train)
    lengths = len({len(text) for text in texts})
    print(f"{len(texts)} names of {lengths} lengths: {seconds:.1f} s; loss {losses[0]:.2f} -> {losses[-1]:.2f}")


if __name__ == "__main__":
    parser = common.parser_of(__doc__, 1)
    parser.add_argument("--names", type=int, default=1000)
    given = parser.parse_args()
    texts = documents(4 if given.quick else given.names)
    one_document(MicroGPT(), texts, common.Settings(given))
    training(MicroGPT(), texts)
