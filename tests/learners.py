"""Engines as learners write them, in several manners, and mistakes in each, as replacements of text."""

import textwrap
from typing import Any

LECTURE = """
class Value:
    def __init__(self, data, _children=(), _op="", label=""):
        self.data = data
        self.grad = 0.0
        self._backward = lambda: None
        self._prev = set(_children)
        self._op = _op
        self.label = label

    def __repr__(self):
        return f"Value(data={self.data})"

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data + other.data, (self, other), "+")

        def _backward():
            self.grad += 1.0 * out.grad
            other.grad += 1.0 * out.grad

        out._backward = _backward
        return out

    def __sub__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data - other.data, (self, other), "-")

        def _backward():
            self.grad += out.grad
            other.grad -= out.grad

        out._backward = _backward
        return out

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data * other.data, (self, other), "*")

        def _backward():
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out._backward = _backward
        return out

    def __truediv__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data / other.data, (self, other), "/")

        def _backward():
            self.grad += 1 / other.data * out.grad
            other.grad += -self.data / other.data**2 * out.grad

        out._backward = _backward
        return out

    def __pow__(self, other):
        assert isinstance(other, (int, float)), "only supporting int/float powers"
        out = Value(self.data**other, (self,), f"**{other}")

        def _backward():
            self.grad += other * self.data ** (other - 1) * out.grad

        out._backward = _backward
        return out

    def __neg__(self):
        return self * -1

    def __radd__(self, other):
        return self + other

    def __rsub__(self, other):
        return Value(other) - self

    def __rmul__(self, other):
        return self * other

    def __rtruediv__(self, other):
        return Value(other) / self

    def tanh(self):
        x = self.data
        t = (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)
        out = Value(t, (self,), "tanh")

        def _backward():
            self.grad += (1 - t**2) * out.grad

        out._backward = _backward
        return out

    def exp(self):
        out = Value(math.exp(self.data), (self,), "exp")

        def _backward():
            self.grad += out.data * out.grad

        out._backward = _backward
        return out

    def log(self):
        out = Value(math.log(self.data), (self,), "log")

        def _backward():
            self.grad += 1 / self.data * out.grad

        out._backward = _backward
        return out

    def relu(self):
        out = Value(0.0 if self.data < 0 else self.data, (self,), "ReLU")

        def _backward():
            self.grad += (out.data > 0) * out.grad

        out._backward = _backward
        return out

    def sigmoid(self):
        s = 1 / (1 + math.exp(-self.data))
        out = Value(s, (self,), "sigmoid")

        def _backward():
            self.grad += s * (1 - s) * out.grad

        out._backward = _backward
        return out

    def backward(self):
        topo = []
        visited = set()

        def build_topo(v):
            if v not in visited:
                visited.add(v)
                for child in v._prev:
                    build_topo(child)
                topo.append(v)

        build_topo(self)
        self.grad = 1.0
        for node in reversed(topo):
            node._backward()
"""

PAIRS = '''
class Scalar:
    """Every node keeps (operand, slope) pairs. The pass counts the users that are still to come."""

    def __init__(self, value, edges=()):
        self.value, self._grad, self.edges = value, 0.0, list(edges)

    @staticmethod
    def lift(x):
        return x if isinstance(x, Scalar) else Scalar(x)

    def __add__(self, other):
        other = Scalar.lift(other)
        return Scalar(self.value + other.value, [(self, 1.0), (other, 1.0)])

    __radd__ = __add__

    def __neg__(self):
        return Scalar(-self.value, [(self, -1.0)])

    def __sub__(self, other):
        return self + -Scalar.lift(other)

    def __rsub__(self, other):
        return Scalar.lift(other) + -self

    def __mul__(self, other):
        other = Scalar.lift(other)
        return Scalar(self.value * other.value, [(self, other.value), (other, self.value)])

    __rmul__ = __mul__

    def __truediv__(self, other):
        other = Scalar.lift(other)
        return Scalar(self.value / other.value, [(self, 1 / other.value), (other, -self.value / other.value**2)])

    def __rtruediv__(self, other):
        return Scalar.lift(other) / self

    def __pow__(self, n):
        if isinstance(n, Scalar):
            p = self.value**n.value
            return Scalar(p, [(self, n.value * self.value ** (n.value - 1)), (n, p * math.log(self.value))])
        return Scalar(self.value**n, [(self, n * self.value ** (n - 1))])

    def tanh(self):
        t = math.tanh(self.value)
        return Scalar(t, [(self, 1 - t * t)])

    def relu(self):
        return Scalar(max(self.value, 0.0), [(self, 1.0 if self.value > 0 else 0.0)])

    def sin(self):
        return Scalar(math.sin(self.value), [(self, math.cos(self.value))])

    def sqrt(self):
        r = math.sqrt(self.value)
        return Scalar(r, [(self, 1 / (2 * r))])

    def backprop(self):
        waiting, found = {}, [self]
        for node in found:
            for child, _ in node.edges:
                if id(child) not in waiting:
                    waiting[id(child)] = 0
                    found.append(child)
                waiting[id(child)] += 1
        self._grad, ready = 1.0, [self]
        while ready:
            node = ready.pop()
            for child, slope in node.edges:
                child._grad += slope * node._grad
                waiting[id(child)] -= 1
                if waiting[id(child)] == 0:
                    ready.append(child)
'''

TAPE = '''
TAPE = []


class Var:
    """All operations stand on one tape, in the order in which they were made."""

    def __init__(self, val, parents=(), slopes=()):
        self.val, self.gradient = val, 0.0
        self.parents, self.slopes = parents, slopes
        TAPE.append(self)

    def backward(self):
        for node in TAPE:
            node.gradient = 0.0
        self.gradient = 1.0
        for node in reversed(TAPE):
            for p, s in zip(node.parents, node.slopes):
                p.gradient += s * node.gradient


def lift(x):
    return x if isinstance(x, Var) else Var(x)


def add(a, b):
    return Var(a.val + b.val, (a, b), (1.0, 1.0))


def sub(a, b):
    return Var(a.val - b.val, (a, b), (1.0, -1.0))


def mul(a, b):
    return Var(a.val * b.val, (a, b), (b.val, a.val))


def div(a, b):
    return Var(a.val / b.val, (a, b), (1 / b.val, -a.val / b.val**2))


def tanh(a):
    t = math.tanh(a.val)
    return Var(t, (a,), (1 - t**2,))


def exp(a):
    e = math.exp(a.val)
    return Var(e, (a,), (e,))
'''

PATHS = '''
class Value:
    """Every path is walked by itself: right, and exponential."""

    def __init__(self, data, parents=()):
        self.data, self.grad, self.parents = data, 0.0, parents

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, ((self, other.data), (other, self.data)))

    def exp(self):
        return Value(math.exp(self.data), ((self, math.exp(self.data)),))

    def backward(self, grad=1.0):
        self.grad += grad
        for parent, slope in self.parents:
            parent.backward(slope * grad)
'''

FLOAT32 = '''
class Tensor:
    """Numbers of NumPy, closures that return shares, an explicit stack."""

    def __init__(self, data, requires_grad=False, parents=(), shares=None):
        self.data = np.float32(data)
        self.requires_grad = requires_grad
        self.parents, self.shares = parents, shares
        self.grad = None

    def __add__(self, other):
        return self.made(np.add, other, lambda g, x, y: (g, g))

    def __sub__(self, other):
        return self.made(np.subtract, other, lambda g, x, y: (g, -g))

    def __mul__(self, other):
        return self.made(np.multiply, other, lambda g, x, y: (g * y, g * x))

    def __truediv__(self, other):
        return self.made(np.divide, other, lambda g, x, y: (g / y, -g * x / (y * y)))

    def __pow__(self, other):
        return self.made(np.power, other, lambda g, x, y: (g * y * x ** (y - 1), g * x**y * np.log(x)))

    def made(self, f, other, shares):
        other = other if isinstance(other, Tensor) else Tensor(other)
        needs = self.requires_grad or other.requires_grad
        return Tensor(f(self.data, other.data), needs, (self, other), shares)

    def tanh(self):
        t = np.tanh(self.data)
        return Tensor(t, self.requires_grad, (self,), lambda g, x: (g * (1 - t * t),))

    def backward(self):
        order, seen, stack = [], set(), [(self, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((p, False) for p in node.parents)
        grads = {id(self): np.float32(1)}
        for node in reversed(order):
            g = grads.get(id(node), np.float32(0))
            if node.requires_grad:
                node.grad = g if node.grad is None else node.grad + g
            if node.shares:
                for p, s in zip(node.parents, node.shares(g, *[p.data for p in node.parents])):
                    grads[id(p)] = grads.get(id(p), np.float32(0)) + s
'''

ENGINES = {"lecture": LECTURE, "pairs": PAIRS, "tape": TAPE, "paths": PATHS, "float32": FLOAT32}

_COMPOSED = {
    LECTURE[LECTURE.index("    def __sub__") : LECTURE.index("    def __mul__")]: """\
    def __sub__(self, other):
        return self + (-other)

""",
    LECTURE[LECTURE.index("    def __truediv__") : LECTURE.index("    def __pow__")]: """\
    def __truediv__(self, other):
        return self * other**-1

""",
    "return Value(other) - self": "return other + (-self)",
    "return Value(other) / self": "return other * self**-1",
}
ENGINES["composed"] = LECTURE  # in the manner of micrograd: a - b is two operations, a / b is two
for _old, _new in _COMPOSED.items():
    ENGINES["composed"] = ENGINES["composed"].replace(_old, _new)

# The engine, what is replaced by what (several, if the mistake takes several), the mistake's name.
Replacements = list[tuple[str, str]]
EQUALITY = """\
    def __eq__(self, other):
        return self.data == other.data

    def __hash__(self):
        return hash(self.data)

"""
WALK = LECTURE[LECTURE.index("        topo = []") :]
MUTANTS: list[tuple[str, str, Replacements, str]] = [
    ("assigns everywhere", "lecture", [("grad += ", "grad = "), ("grad -= ", "grad = -")], "overwrites"),
    (
        "assigns in *",
        "lecture",
        [
            ("self.grad += other.data * out.grad", "self.grad = other.data * out.grad"),
            ("other.grad += self.data * out.grad", "other.grad = self.data * out.grad"),
        ],
        "overwrites",
    ),
    ("assigns shares", "pairs", [("child._grad += slope", "child._grad = slope")], "overwrites"),
    ("assigns on the tape", "tape", [("p.gradient += s", "p.gradient = s")], "overwrites"),
    ("assigns in a dict", "float32", [("= grads.get(id(p), np.float32(0)) + s", "= s")], "overwrites"),
    (
        "recursive calls",
        "lecture",
        [
            (
                WALK,
                """\
        self.grad = 1.0

        def walk(v):
            v._backward()
            for child in v._prev:
                walk(child)

        walk(self)
""",
            )
        ],
        "paths",
    ),
    (
        "recursive calls, each node once",
        "lecture",
        [
            (
                WALK,
                """\
        self.grad = 1.0
        seen = set()

        def walk(v):
            if v in seen:
                return
            seen.add(v)
            v._backward()
            for child in v._prev:
                walk(child)

        walk(self)
""",
            ),
            ("set(_children)", "tuple(_children)"),
        ],
        "order",
    ),
    (
        "breadth first",
        "lecture",
        [
            (
                WALK,
                """\
        self.grad = 1.0
        queue, seen = [self], {self}
        while queue:
            v = queue.pop(0)
            v._backward()
            for child in v._prev:
                if child not in seen:
                    seen.add(child)
                    queue.append(child)
""",
            ),
            ("set(_children)", "tuple(_children)"),
        ],
        "depth",
    ),
    ("no visited", "lecture", [("if v not in visited:", "if True:")], "paths"),
    ("not reversed", "lecture", [("in reversed(topo)", "in topo")], "direction"),
    (
        "no walk",
        "lecture",
        [
            ("            node._backward()", "            pass"),
            ("self.grad = 1.0\n", "self.grad = 1.0; self._backward()\n"),
        ],
        "direction",
    ),
    (
        "forgets upstream in *",
        "lecture",
        [("other.data * out.grad", "other.data"), ("self.data * out.grad", "self.data")],
        "upstream",
    ),
    ("forgets upstream in tanh", "lecture", [("(1 - t**2) * out.grad", "(1 - t**2)")], "upstream"),
    ("forgets upstream in +", "lecture", [("1.0 * out.grad", "1.0")], "upstream"),
    ("forgets upstream everywhere", "pairs", [("slope * node._grad", "slope")], "upstream"),
    ("wrong sign in -", "lecture", [("other.grad -= out.grad", "other.grad += out.grad")], "sign"),
    ("wrong sign in neg", "pairs", [("[(self, -1.0)]", "[(self, 1.0)]")], "sign"),
    ("wrong sign in /", "lecture", [("-self.data / other.data**2", "self.data / other.data**2")], "sign"),
    (
        "a and b swapped in /",
        "lecture",
        [
            ("1 / other.data * out.grad", "1 / self.data * out.grad"),
            ("-self.data / other.data**2", "-other.data / self.data**2"),
        ],
        "swapped",
    ),
    ("b / a", "tape", [("a.val / b.val, (a, b)", "b.val / a.val, (a, b)")], "swapped"),
    (
        "shares swapped in /",
        "pairs",
        [("[(self, 1 / other.value), (other, ", "[(other, 1 / other.value), (self, ")],
        "swapped",
    ),
    ("no exponent", "lecture", [("other * self.data ** (other - 1)", "self.data ** (other - 1)")], "exponent"),
    (
        "no exponent's factor",
        "pairs",
        [("n.value * self.value ** (n", "self.value ** (n"), ("(self, n * self", "(self, self")],
        "exponent",
    ),
    ("tanh' of the input", "lecture", [("1 - t**2", "1 - x**2")], "tanh"),
    ("tanh' of the input, paths", "pairs", [("1 - t * t", "1 - self.value**2")], "tanh"),
    ("relu' of the output", "lecture", [("out.data > 0", "out.data >= 0")], "relu"),
    ("relu' is the output", "lecture", [("(out.data > 0)", "out.data")], "relu"),
    ("relu' of 0", "pairs", [("1.0 if self.value > 0 else 0.0", "1.0 if 0.0 >= 0 else 0.0")], "relu"),
    ("a set of operands", "pairs", [("list(edges)", "set(edges)")], "repeated"),
    (
        "a set of operands, slopes in a dict",
        "pairs",
        [("list(edges)", "list(dict(edges).items())")],
        "repeated",
    ),
    ("root not set", "lecture", [("        self.grad = 1.0\n", "")], "root"),
    ("root not set, tape", "tape", [("        self.gradient = 1.0\n", "")], "root"),
    ("reflected minus swapped", "lecture", [("return Value(other) - self", "return self - other")], "reflected"),
    ("reflected / swapped", "pairs", [("return Scalar.lift(other) / self", "return self / other")], "reflected"),
    ("equal numbers", "lecture", [("    def __repr__", EQUALITY + "    def __repr__")], "equality"),
    ("exp' of the input", "lecture", [("out.data * out.grad", "self.data * out.grad")], "slope"),
    ("log' of the output", "lecture", [("1 / self.data * out.grad", "1 / out.data * out.grad")], "slope"),
    ("sin' with a sign", "pairs", [("math.cos(self.value))", "-math.cos(self.value))")], "sign"),
    ("sigmoid' half done", "lecture", [("s * (1 - s) * out", "(1 - s) * out")], "slope"),
    ("upstream added", "lecture", [("(1 - t**2) * out.grad", "(1 - t**2) + out.grad")], "slope"),
    ("a product that adds", "tape", [("Var(a.val * b.val", "Var(a.val + b.val")], "value"),
    ("exp raises", "lecture", [("out.data * out.grad", "ou.data * out.grad")], "raises"),
    ("gradients begin at 1", "lecture", [("self.grad = 0.0", "self.grad = 1.0")], "start"),
    ("half a gradient for b", "pairs", [("(other, self.value)", "(other, self.value / 2)")], "slope"),
]

IADD = """\
    def __iadd__(self, other):
        self.data += other.data
        return self

"""
ISUB = "    def __isub__(self, other):\n        return Value(self.data - other.data)\n\n"
_MORE = [
    ("the root has 2", "composed", [("self.grad = 1.0\n", "self.grad = 2.0\n")], "root"),
    ("minus is 1 times", "composed", [("self * -1", "self * 1")], "value"),
    ("a sum with a product's slopes", "lecture", [("+= 1.0 * out", "+= other.data * self.data * out")], "slope"),
    ("other.grad is assigned", "composed", [("other.grad += self.data", "other.grad = self.data")], "overwrites"),
    (
        "exp knows no operand",
        "lecture",
        [("Value(math.exp(self.data), (self,)", "Value(math.exp(self.data), ()")],
        "severed",
    ),
    (
        "* knows one operand",
        "lecture",
        [('other.data, (self, other), "*"', 'other.data, (self,), "*"')],
        "severed",
    ),
    ("minus outside the graph", "composed", [("self * -1", "Value(-self.data)")], "slope"),
    ("a rule that is not called", "lecture", [("node._backward()", "node._backward")], "idle"),
    (
        "backward() of the operands",
        "lecture",
        [
            (
                WALK,
                """\
        self.grad = 1.0
        self._backward()
        for child in self._prev:
            child.backward()
""",
            )
        ],
        "reseeded",
    ),
    (
        "* in place",
        "lecture",
        [
            (
                "        out = Value(self.data * other.data",
                "        self.data *= other.data\n        out = Value(self.data",
            )
        ],
        "mutates",
    ),
    ("-= outside the graph", "lecture", [("    def __mul__", ISUB + "    def __mul__")], "severed"),
    ("+= in place", "lecture", [("    def __mul__", IADD + "    def __mul__")], "mutates"),
    ("halves only", "lecture", [("self.data = data", "self.data = math.floor(data * 2) / 2")], "mutates"),
    (
        "other.grad += self.grad",
        "lecture",
        [("other.grad += 1.0 * out.grad", "other.grad += 1.0 * self.grad")],
        "upstream",
    ),
    ("a leaking relu'", "lecture", [("(out.data > 0)", "(1 if out.data > 0 else 0.01)")], "relu"),
    ("the exponent of a**n", "lecture", [("** (other - 1)", "** other")], "slope"),
    (
        "seen by number",
        "composed",
        [("v not in visited", "v.data not in visited"), ("visited.add(v)", "visited.add(v.data)")],
        "equality",
    ),
]
MUTANTS += _MORE + [  # and what holds for the lecture's engine holds for one whose operations are made of others
    (f"{title}, composed", "composed", replacements, mistake)
    for title, name, replacements, mistake in MUTANTS
    if name == "lecture" and all(old in ENGINES["composed"] for old, _ in replacements)
]

FOREVER = "def backward(self, topo=[], visited=set())"
ARRAY = "self.data = data if isinstance(data, np.ndarray) else np.array([float(data)])"
IADD_RIGHT = "    def __iadd__(self, other):\n        return self + other\n\n"
# Engines that are right in one pass: what is replaced, the names of the limits.
LIMITED: list[tuple[str, str, Replacements, set[str]]] = [
    ("the lecture's", "lecture", [], {"interior", "depth"}),
    ("no __radd__", "lecture", [("__radd__", "_no_radd")], {"interior", "depth", "missing"}),
    ("no __rsub__", "lecture", [("__rsub__", "_no_rsub")], {"interior", "depth", "missing"}),
    ("counts users", "pairs", [], {"interior"}),
    ("a tape that starts anew", "tape", [], {"interior", "missing"}),
    ("every path", "paths", [], {"paths", "missing", "depth"}),
    ("single precision", "float32", [], {"missing"}),
    ("relu' of 0 is 1", "lecture", [("out.data > 0", "self.data >= 0")], {"interior", "depth", "relu"}),
    (
        "-= in place of += -",
        "lecture",
        [("self.grad += out.grad\n", "self.grad -= -out.grad\n")],
        {"interior", "depth"},
    ),
    ("0 in place of 0.0", "lecture", [("self.grad = 0.0", "self.grad = 0")], {"interior", "depth"}),
    ("numbers in arrays", "lecture", [("self.data = data", ARRAY)], {"interior", "depth"}),
    (
        "a list for all passes",
        "lecture",
        [("        topo = []\n        visited = set()\n", ""), ("def backward(self)", FOREVER)],
        {"interior", "depth"},
    ),
    ("+= of its own", "lecture", [("    def __mul__", IADD_RIGHT + "    def __mul__")], {"interior", "depth"}),
    ("operands in a list", "lecture", [("set(_children)", "list(_children)")], {"interior", "depth"}),
]


def engine(name: str, replacements: Replacements = []) -> Any:  # noqa: B006 - never changed
    """The class of an engine with replacements, or all its functions if the class alone has no operations."""
    text = ENGINES[name]
    for old, new in replacements:
        assert old in text, f"{old!r} is not in the engine {name!r}"
        text = text.replace(old, new)
    scope: dict[str, Any] = {"__name__": "learners_engine"}
    exec(textwrap.dedent("import math\nimport numpy as np\n") + text, scope)
    classes = {"lecture": "Value", "composed": "Value", "pairs": "Scalar", "paths": "Value", "float32": "Tensor"}
    return scope[classes[name]] if name in classes else scope
