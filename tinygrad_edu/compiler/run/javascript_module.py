"""JavaScriptModule: what `tg.compile(..., backend="javascript")` returns."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...engine.value import Value
from ..backends.javascript import helpers, javascript_number, json_text
from ..backends.javascript_writer import JavaScriptScalars, JavaScriptWriter
from ..ir.plan import plan_of
from .build import Build
from .pointwise import Pointwise


class JavaScriptModule:
    """A function of scalars as the source of an ES module, which any page can import. Python does not run it.

    source   the module. It exports
                 parameters             their numbers, as they were when the function was compiled
                 names                  their labels
                 predict(...example)    what the function returns for one example: a number, or nested arrays
                 valueAndGrad(...example)   [number, gradient], if the function returns one number
             The last argument of both may be other parameters.

    Its operations are those of backend="python", which are compared with the function at the example and beside
    it. The text of each is not: the tests of this package run it by Node.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Iterable[Value], dtype: Any, example: Sequence[Any] | None
    ):
        if example is None:
            raise TypeError('backend="javascript" needs the arguments of one example, as in example=(0.5,).')
        self.function: Callable[..., Any] = function
        point = Pointwise(function, parameters, dtype)
        point.takes_examples = False  # a module has no guards
        self.parameters: list[Value] = point.parameters
        batch = [[argument] for argument in example]
        programs = [point.program_for(batch, gradient=False)]
        if not programs[0].output_shape:
            programs.append(point.program_for(batch, gradient=True))
        self.source: str = self._module(programs)

    def _module(self, programs: Sequence[Build]) -> str:
        calls, functions = {"numbers"}, []
        labels = [p.label or f"p{i}" for i, p in enumerate(self.parameters)]
        for build, function in zip(programs, ("predict", "valueAndGrad"), strict=False):
            plan = plan_of(build.lowered, build.contract.request.gradient, split=False)
            sizes = map(math.prod, build.contract.request.shapes)
            writer = JavaScriptWriter(JavaScriptScalars(plan, labels, [[""] * size for size in sizes]))
            functions.append(writer.exported(build, function))
            calls |= writer.functions
        numbers = ", ".join(javascript_number(p.data) for p in self.parameters)
        parts = [
            f"// {_function_name(self.function)}: {len(self.parameters):,} parameters. Written by tinygrad_edu.",
            f"export const parameters = [{numbers}];",
            f"export const names = {json_text(labels)};",
            helpers(calls),
            *functions,
            "export default predict;",
        ]
        return "\n".join(parts) + "\n"

    def __repr__(self) -> str:
        return f"JavaScriptModule({_function_name(self.function)}, {len(self.source):,} characters)"


def _function_name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__)).replace("<lambda>", "a function")
