"""After a plain install: what needs no extra works, and what needs one says which."""

import contextlib
import importlib.util

import tinygrad_edu as tg
from tinygrad_edu.testing import gradcheck


def installed(name: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec(name) is not None
    return False


assert not installed("hypothesis"), "this is no plain install"
assert not installed("flint"), "this is no plain install"

print(gradcheck(lambda x, y: (x * y).tanh(), 0.5, -1.25))
model = tg.nn.MLP(2, [4, 1], rng=0)
step = tg.compile(lambda x, y: (model(x) - y) ** 2, model.parameters())
value, gradient = step.value_and_grad([[0.5, -1.0], [1.0, 2.0]], [0.0, 1.0])
assert len(gradient) == 17
assert "<svg" in tg.draw(tg.Value(2.0) * 3)._repr_mimebundle_()["image/svg+xml"]

for name, extra in (("check_rule", "testing"), ("diagnose", "testing"), ("prove_rule", "prove")):
    message = ""
    try:
        getattr(tg.testing, name)
    except ImportError as error:
        message = str(error)
    assert f'pip install "tinygrad-edu[{extra}]"' in message, f"{name}: {message}"
