"""Module: what all layers and networks have in common. A module finds its parameters by itself."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, overload

from ..engine.value import Value
from ..engine.watch import watch
from . import files
from .architecture import built, call_text, described, from_file
from .initialisation import limited_to
from .rows import flat
from .state import arrays_of, assign, numbers_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class Module:
    """Anything with parameters: its attributes that are Values, Modules, or lists or dicts of them, in order."""

    _buffers: tuple[str, ...] = ()  # names of attributes that are lists of floats: saved, but not learned
    _array_names: ClassVar[dict[str, str]] = {}  # of attributes that PyTorch calls otherwise, "" for none

    @property
    def training(self) -> bool:
        """Is it in training, not in evaluation? Dropout and BatchNorm behave differently in the two modes."""
        mode: bool = vars(self).get("training", True)
        if watch.tracer:
            watch.tracer.reads(self, "training", mode)
        return mode

    @training.setter
    def training(self, mode: bool) -> None:
        vars(self)["training"] = mode

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """(name, Module) of this module, named "", and of all modules inside it, each once, in a stable order."""
        return (part for part in _parts("", self, set()) if isinstance(part[1], Module))

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Value]]:
        """(name, Value) of every parameter, each once, in a stable order.

        The name is the first place where the parameter is found: "layer0.neuron3.w2", or "layer0.W3_2" in a
        matrix.
        """
        return ((prefix + name, part) for name, part in _parts("", self, set()) if isinstance(part, Value))

    def parameters(self) -> list[Value]:
        """Every parameter once, in a stable order."""
        return [parameter for _, parameter in self.named_parameters()]

    def buffers(self) -> dict[str, list[float]]:
        """Numbers that are remembered but not learned, such as BatchNorm's running averages: name -> list.

        The lists are the modules' own: `module.buffers()[name][:] = numbers` changes them.
        """
        return {
            f"{place}.{name}".removeprefix("."): getattr(module, name)
            for place, module in self.named_modules()
            for name in module._buffers
        }

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all inside it to training, or to evaluation with mode=False. Returns itself."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all inside it to evaluation. Returns itself."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to 0. Call it before each backward(): leaves accumulate."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    # --- State and files --------------------------------------------------------------------------------------

    @overload
    def state_dict(self, arrays: Literal[False] = False) -> dict[str, Any]: ...
    @overload
    def state_dict(self, arrays: Literal[True]) -> "dict[str, NDArray[np.float64]]": ...
    def state_dict(self, arrays: bool = False) -> dict[str, Any]:
        """All numbers by name: of a parameter its number, of a buffer a copy of its list.

        With arrays=True, NumPy arrays by layer, with PyTorch's names, layout and order. For MLP(64, [32, 10]):
        "0.weight" (32, 64), "0.bias" (32,), "1.weight" (10, 32), "1.bias" (10,).

        torch.nn.Sequential counts an activation as a layer, so there the second one is "2.weight". Since the order
        is the same, the names can be exchanged:

            state = zip(torch_model.state_dict(), model.state_dict(arrays=True).values(), strict=True)
            torch_model.load_state_dict({name: torch.from_numpy(array) for name, array in state})
            model.load_state_dict(torch_model.state_dict())  # exchanges them itself

        `safetensors.numpy.save_file` writes these arrays to a file (extra `safetensors`).
        """
        if arrays:
            import numpy as np

            return {name: np.array(numbers_of(x), np.float64) for name, x in arrays_of(self).items()}
        numbers = {name: parameter.data for name, parameter in self.named_parameters()}
        return numbers | {name: list(buffer) for name, buffer in self.buffers().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the numbers of a `state_dict()` in either form; arrays may be lists or tensors, too.

        Raises ValueError for missing or unexpected names and for another length or shape, TypeError for what is
        no real number. After an error nothing has changed.
        """
        assign(self, state)

    def save(self, path: str | os.PathLike[str], optimizer: Any = None) -> None:
        """Write the architecture and all numbers to a JSON file; with an optimizer, its state and settings too.

        `nn.load(path)` builds the model anew. `model.load(path, optimizer)` resumes a training: the parameters,
        the buffers, and the optimizer's lr, settings, moments, step counts and number of epochs come back to the
        last bit. The file is replaced in one piece: after a crash it is the old one or the new one.

        Raises TypeError, and writes nothing, if a part of the model is not text, a number or a module (an
        activation that is your own function, for instance), or if a number is not a float.
        """
        parts = {"model": described(self), "state": self.state_dict()}
        for name, numbers in parts["state"].items():
            for number in numbers if isinstance(numbers, list) else [numbers]:
                if type(number) is not float:
                    raise TypeError(f"{name} is {number!r}: a file holds floats only, convert it with float().")
        if optimizer is not None:
            parts["optimizer"] = optimizer.state_dict()
        files.write(path, parts)

    def load(self, path: str | os.PathLike[str], optimizer: Any = None) -> Self:
        """Take over the numbers from a file of the same architecture; those of an optimizer too. Returns itself.

        Make model and optimizer as in the training that saved them, then load: see `save`.

        Raises ValueError, and changes nothing, if the file is broken, has another architecture, or has no state
        for this optimizer.
        """
        parts = files.read(path)
        try:
            saved, own = from_file(parts["model"], Module), described(self)
        except ValueError as error:
            raise ValueError(f"{path} cannot be loaded. {error}") from None
        if saved != own:
            shown = f"{call_text(saved):.300}, not {call_text(own):.300}"
            raise ValueError(f"{path} has another architecture: {shown}.")
        _fill(self, parts, path, optimizer)
        return self

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, by position and by name, with which the class builds a module like this one."""
        names = list(inspect.signature(type(self)).parameters)
        return [], {
            name: getattr(self, name) for name in names if name not in ("rng", "init") and hasattr(self, name)
        }

    def __repr__(self) -> str:
        """The call that makes such a module, without the arguments for the first weights."""
        positional, named = self._arguments()
        declared = inspect.signature(type(self)).parameters
        required = {name for name, argument in declared.items() if argument.default is argument.empty}
        texts = [f"{x!r}" if name in required else f"{name}={x!r}" for name, x in named.items()]
        return f"{type(self).__name__}({', '.join([*map(repr, positional), *texts])})"

    def _arrays(self) -> dict[str, Any]:
        """What the arrays of `state_dict(arrays=True)` are made of, by name: Values in lists, buffers, modules."""
        return {self._array_names.get(name, name): part for name, part in vars(self).items()}

    def _label_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            parameter.label = name

    def __call__(self, inputs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define __call__(self, inputs).")


def _parts(place: str, part: Any, seen: set[int], in_list: bool = False) -> Iterator[tuple[str, Any]]:
    """(place, part) of every Module and Value in part, itself included, except those already seen.

    Indices of a list in a list are joined as in W3_2, because W32 could be W[32] or W[3][2].
    """
    inside: list[tuple[str, Any]] = []
    if isinstance(part, Value | Module):
        if id(part) in seen:
            return
        seen.add(id(part))
        yield place, part
        if isinstance(part, Module):
            inside = [(f"{place}.{name}".removeprefix("."), attribute) for name, attribute in vars(part).items()]
    elif isinstance(part, list | tuple):
        stem = f"{place}_" if in_list else place.removesuffix("s")
        inside = [(f"{stem}{i}", item) for i, item in enumerate(part)]
    elif isinstance(part, dict):
        inside = [(f"{place}.{key}", item) for key, item in part.items()]
    for name, item in inside:
        yield from _parts(name, item, seen, isinstance(part, list | tuple))


# --- Files --------------------------------------------------------------------------------------------------


@overload
def load(path: str | os.PathLike[str]) -> Module: ...
@overload
def load(path: str | os.PathLike[str], optimizer: Callable[[list[Value]], T]) -> tuple[Module, T]: ...
def load(path: Any, optimizer: Any = None) -> Any:
    """The model in a file that `Module.save` wrote, built anew. No code is run but the constructors of modules.

    Its classes are those of `nn` and your own Module classes, which must be defined before. With an optimizer
    class, such as optim.Adam, returns (model, optimizer) as they were saved, ready for the next step:

        model, optimizer = nn.load("model.json", optim.Adam)

    Raises ValueError if the file is not a whole model file, or names a class that is not defined or not unique;
    TypeError for an optimizer that is not a class or function.
    """
    if optimizer is not None and not callable(optimizer):
        raise TypeError(
            f"load takes an optimizer class such as optim.Adam, got {optimizer!r}. That holds the parameters of "
            "another model: write model.load(path, optimizer)."
        )
    parts = files.read(path)
    try:
        with limited_to(len(flat(list(parts["state"].values())))):
            model = built(from_file(parts["model"], Module), Module)
    except Exception as error:  # a constructor may raise anything for wrong arguments
        text = f"{call_text(parts['model']):.200}"
        raise ValueError(f"{path} cannot be loaded. {text} cannot be built: {error}") from None
    its = optimizer and optimizer(model.parameters())
    _fill(model, parts, path, its)
    return (model, its) if optimizer else model


def _fill(model: Module, parts: dict[str, Any], path: Any, optimizer: Any) -> None:
    """Put the numbers of a file into a model and its optimizer: both, or neither and a ValueError."""
    before = model.state_dict()
    try:
        model.load_state_dict(parts["state"])
        if optimizer is not None and "optimizer" not in parts:
            raise ValueError("It has no optimizer: write it with model.save(path, optimizer).")
        if optimizer is not None:
            optimizer.load_state_dict(parts["optimizer"])
    except (TypeError, ValueError) as error:
        model.load_state_dict(before)
        raise ValueError(f"{path} cannot be loaded. {error}") from None
