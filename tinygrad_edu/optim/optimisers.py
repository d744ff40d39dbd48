"""SGD, RMSProp, Adam, AdamW: each is one update equation. `Optimizer` does everything else.

Names as in PyTorch, and in the equations:
  parameter, gradient   one number and dL/d(parameter), or one array each
  lr                    the learning rate: how far a step goes
  t                     the number of this step, from 1
  state                 what an equation remembers of one parameter between steps: 0 before the first
"""

import copy
import reprlib
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, repeat
from numbers import Real
from typing import TYPE_CHECKING, Any

from ..engine.elementary import sqrt
from ..engine.value import Value, watchers
from .settings import distinct, setting

if TYPE_CHECKING:
    from .vectors import VectorSteps

FORGOTTEN = (
    "The gradients of this step() still hold those of the step before, because backward() adds to what is there: "
    "call zero_grad() once per step, before backward()."
)
EPS = "eps prevents a division by zero, so it must be positive"


class Optimizer:
    """What all optimisers share: they move parameters by the gradients that backward() has added up.

    A subclass defines `update` and `n_states`. `lr` may be changed at any time, for instance by a schedule.
    `parameters` may be changed too: the state belongs to the parameter, not to its place in the list. `epochs`
    counts the epochs that `fit` has finished.

    Raises ValueError without parameters, or for a number out of range; TypeError unless parameters are Values and
    settings are numbers.
    """

    n_states = 0

    def __init__(self, parameters: Iterable[Value], lr: float, weight_decay: float = 0):
        name = type(self).__name__
        self.parameters: list[Value] = distinct(parameters, name, "moves")
        self.lr: float = setting("The learning rate must be positive", lambda x: x > 0, lr=lr)
        self.weight_decay: float = setting(
            "The weight decay must be 0 or more", lambda x: x >= 0, weight_decay=weight_decay
        )
        self.state: dict[Value, tuple[Any, ...]] = {}  # (t, ...) of every parameter that has been moved
        self.epochs = 0
        # The gradients that the last step used, and those of them that a backward() has found unchanged. Both are
        # replaced together, so that a backward() of another thread that runs meanwhile changes only the old two.
        self._watched: tuple[dict[Value, Any], dict[Value, Any]] = {}, {}
        self._warned = False
        if not self.parameters:
            raise ValueError(f"{name} got no parameters to optimise: pass model.parameters().")

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        """(parameter, *state) after step t. It changes nothing in place, so that it works on floats and arrays.

        Raises NotImplementedError if the subclass does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(t, parameter, gradient, *state).")

    def step(self) -> None:
        """Move every parameter against its gradient.

        Warns once (UserWarning) if zero_grad was forgotten since the last step, so that the old gradients are
        still in the sum.
        """
        if not self._warned and any(p.grad not in (0, left) for p, left in self._watched[1].items()):
            self._warned = True
            warnings.warn(FORGOTTEN, stacklevel=2)
        numbers, states = [], []
        for parameter in self.parameters:
            t, *state = self.state.get(parameter) or (0,) * (1 + self.n_states)
            data, *state = self.update(t + 1, parameter.data, parameter.grad, *state)
            numbers.append(data)
            states.append((t + 1, *state))
        moved = map(setattr, self.parameters, repeat("data"), numbers)
        counted = map(self.state.__setitem__, self.parameters, states)
        deque(chain(moved, counted), maxlen=0)  # all or none are moved: Ctrl-C cannot interrupt this loop in C
        self.watch()

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0. Call it once per step, before backward()."""
        for parameter in self.parameters:
            parameter.grad = 0.0
        self._watched = {}, {}
        watchers.discard(self)

    # --- A forgotten zero_grad ----------------------------------------------------------------------------------
    # A backward() adds to an old gradient if it finds the number, other than 0, that the last step has used.

    def watch(self) -> None:
        """The gradients have been used: from now on, a backward() that adds to them has forgotten zero_grad()."""
        if not self._warned:
            self._watched = {p: p.grad for p in self.parameters if p.grad}, {}
            watchers.add(self)

    def before_backward(self) -> None:
        """A backward() is about to add to the gradients of some parameters."""
        left, stale = self._watched
        for p in [p for p in stale if not p.grad]:  # set to 0 meanwhile
            del stale[p]
        stale |= {p: gradient for p, gradient in left.items() if p.grad == gradient}
        left.clear()

    # --- State --------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What `update` reads beside lr, by name: weight_decay, betas ..., and what a subclass has added."""
        ours = ("parameters", "state", "lr", "epochs")
        return {name: x for name, x in vars(self).items() if name not in ours and not name.startswith("_")}

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters: class, lr, epochs, settings, and the state of each parameter in order.

        The state of a parameter is [t, ...], or None before its first step. `Module.save` writes it to a file.
        """
        return {
            "class": type(self).__name__,
            "lr": self.lr,
            "epochs": self.epochs,
            "settings": copy.deepcopy(self.settings()),
            "state": [list(self.state[p]) if p in self.state else None for p in self.parameters],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of the same class with as many parameters, in the same order.

        Raises ValueError, and changes nothing, if it is the state of something else.
        """
        state = state if isinstance(state, Mapping) else {"class": state}
        own, rows = self.state_dict(), state.get("state")
        if state.get("class") != own["class"]:
            raise ValueError(f"This is the state of {reprlib.repr(state.get('class'))}, not of {own['class']!r}.")
        if not isinstance(rows, list) or len(rows) != len(self.parameters):
            count = len(rows) if isinstance(rows, list) else "no"
            raise ValueError(f"The state is that of {count} parameters, but there are {len(self.parameters)}.")
        fresh = [0] * (1 + self.n_states)
        new = _fitted(state, own | {"state": [row if row is None else fresh for row in rows]}, "state")
        vars(self).update(new["settings"], lr=new["lr"], epochs=new["epochs"])
        self.state = {p: tuple(row) for p, row in zip(self.parameters, new["state"], strict=True) if row}

    @contextmanager
    def arrays(self, vector: Any) -> Iterator[Callable[[Any], None]]:
        """A context manager that gives step(gradient) for parameters in one vector, as in a compiled `arrays()`.

        vector (P,), an array, has the P parameters in order and is moved in place; gradient is (P,). At
        the end of the block the state goes back to the parameters, so steps on Values and vectors may alternate.

        >>> import tinygrad_edu as tg
        >>> w = tg.Value(3.0)
        >>> loss, optimizer = tg.compile(lambda x: (w * x - 1) ** 2, [w]), Adam([w], lr=0.1)
        >>> with loss.arrays() as theta, optimizer.arrays(theta) as step:
        ...     for _ in range(200):
        ...         value, gradient = loss.value_and_grad([1.0, 1.0])
        ...         step(gradient)
        >>> print(f"{w:.3f}")
        1.000

        Raises ValueError unless there is one number per parameter, TypeError if `update` cannot be run on vectors.
        """
        steps = self.vectors(vector)
        try:
            yield steps.step
        finally:
            steps.write_back()

    def vectors(self, vector: Any) -> "VectorSteps":
        """The steps of `arrays`, as an object that also has the vectors of the state."""
        from .vectors import VectorSteps

        return VectorSteps(self, vector)

    def __repr__(self) -> str:
        n = len(self.parameters)
        return f"{type(self).__name__}({n:,} parameter{'s' * (n > 1)}, lr={self.lr!r})"

    def _decayed(self, parameter: Any, gradient: Any) -> Any:
        """The gradient of the loss + weight_decay/2 * parameter^2: weights that are not needed shrink."""
        return gradient + self.weight_decay * parameter if self.weight_decay else gradient


class SGD(Optimizer):
    """Gradient descent: parameter <- parameter - lr * gradient. (Stochastic, if the loss is that of a batch.)

    With momentum the parameter keeps moving like a rolling ball: velocity <- momentum * velocity + gradient, and
    parameter <- parameter - lr * velocity. nesterov looks one step ahead along the velocity:
    parameter <- parameter - lr * (gradient + momentum * velocity).

    weight_decay * parameter is added to the gradient first. Raises ValueError unless momentum is at least 0 and
    below 1, and for nesterov without momentum.
    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, 2013, with lr
    outside of the velocity, as in PyTorch.
    """

    n_states = 1

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: float = 0.01,
        momentum: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.momentum: float = _average(momentum=momentum)
        self.nesterov: bool = nesterov
        if nesterov and not momentum:
            raise ValueError(
                "nesterov looks ahead along the velocity, but there is none: give a momentum, such as 0.9."
            )

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        (velocity,) = state
        gradient = self._decayed(parameter, gradient)
        velocity = self.momentum * velocity + gradient if self.momentum else gradient
        move = gradient + self.momentum * velocity if self.nesterov else velocity
        return parameter - self.lr * move, velocity


class RMSProp(Optimizer):
    """Divides each gradient by its usual size, so that all parameters move at a similar pace.

        square <- alpha * square + (1 - alpha) * gradient^2
        velocity <- momentum * velocity + gradient / (sqrt(square) + eps)
        parameter <- parameter - lr * velocity

    weight_decay * parameter is added to the gradient first. Raises ValueError unless eps is positive and alpha and
    momentum are at least 0 and below 1.
    Source: Tieleman and Hinton, Neural Networks for Machine Learning, lecture 6.5, 2012; momentum and eps as in
    PyTorch.
    """

    n_states = 2

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: float = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
    ):
        super().__init__(parameters, lr, weight_decay)
        self.alpha: float = _average(alpha=alpha)
        self.eps: float = setting(EPS, lambda x: x > 0, eps=eps)
        self.momentum: float = _average(momentum=momentum)

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        square, velocity = state
        gradient = self._decayed(parameter, gradient)
        square = self.alpha * square + (1 - self.alpha) * (gradient * gradient)
        move = gradient / (sqrt(square) + self.eps)
        velocity = self.momentum * velocity + move if self.momentum else move
        return parameter - self.lr * velocity, square, velocity


class Adam(Optimizer):
    """Momentum and RMSProp in one: the mean of the gradients over the root of the mean of their squares.

        mean <- beta1 * mean + (1 - beta1) * gradient
        square <- beta2 * square + (1 - beta2) * gradient^2
        parameter <- parameter - lr * mean' / (sqrt(square') + eps)

    Both means start at 0, which is too small: mean' = mean / (1 - beta1^t) and square' = square / (1 - beta2^t)
    correct for it. So the first step has the size lr for any gradient.

    weight_decay * parameter is added to the gradient first. Raises ValueError unless eps is positive and both
    betas are at least 0 and below 1.
    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015, algorithm 1.
    """

    n_states = 2

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ):
        super().__init__(parameters, lr, weight_decay)
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise TypeError(f"Adam takes two betas, as in betas=(0.9, 0.999), got betas={betas!r}.") from None
        self.betas: tuple[float, float] = (_average(beta1=beta1), _average(beta2=beta2))
        self.eps: float = setting(EPS, lambda x: x > 0, eps=eps)

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        mean, square = state
        beta1, beta2 = self.betas
        gradient = self._decayed(parameter, gradient)
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * (gradient * gradient)
        typical = sqrt(square / (1 - beta2**t)) + self.eps
        return parameter - self.lr * (mean / (1 - beta1**t)) / typical, mean, square


class AdamW(Adam):
    """Adam with weight decay outside the gradient: parameter <- (1 - lr * weight_decay) * parameter first.

    In Adam a parameter with large gradients decays less, because the decay is divided by their size too. Raises
    ValueError as Adam does.
    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, algorithm 2, with the decay times
    lr, as in PyTorch.
    """

    def __init__(
        self,
        parameters: Iterable[Value],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        return super().update(t, (1 - self.lr * self.weight_decay) * parameter, gradient, *state)

    def _decayed(self, parameter: Any, gradient: Any) -> Any:
        return gradient


def _average(**named: Any) -> Any:
    """The number itself, which is the weight of the past in a running average."""
    return setting("The weight of the past is at least 0 and below 1", lambda x: 0 <= x < 1, **named)


def _fitted(x: Any, pattern: Any, place: str) -> Any:
    """x with lists and tuples as in the pattern. Raises ValueError unless it has the same structure."""
    if isinstance(pattern, dict) and isinstance(x, dict) and x.keys() == pattern.keys():
        return {key: _fitted(x[key], pattern[key], f"{place}[{key!r}]") for key in pattern}
    if isinstance(pattern, list | tuple) and isinstance(x, list | tuple) and len(x) == len(pattern):
        return type(pattern)(
            _fitted(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(x, pattern, strict=True))
        )
    if _is_number(x) and _is_number(pattern):
        return x
    if type(x) is type(pattern) and not isinstance(x, dict | list | tuple):
        return x
    raise ValueError(f"{place} must be like {reprlib.repr(pattern)}, got {reprlib.repr(x)}.")


def _is_number(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool)
