"""Engines as learners write them, in several manners, and mistakes in each, as replacements of text."""

from typing import Any

BINARY = """
    def __{name}__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data {symbol} other.data, (self, other), "{symbol}")

        def _backward():
            self.grad += {first} * out.grad
            other.grad += {second} * out.grad

        out._backward = _backward
        return out
"""
UNARY = """
    def {name}(self):
        x = self.data
        t = {value}
        out = Value(t, (self,), "{name}")

        def _backward():
            self.grad += {slope} * out.grad

        out._backward = _backward
        return out
"""
SUB = BINARY.format(name="sub", symbol="-", first="1", second="-1")
DIV = BINARY.format(name="truediv", symbol="/", first="1 / other.data", second="-self.data / other.data**2")
WALK = """\
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
LECTURE = "".join(
    [
        """
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
""",
        BINARY.format(name="add", symbol="+", first="1.0", second="1.0"),
        SUB,
        BINARY.format(name="mul", symbol="*", first="other.data", second="self.data"),
        DIV,
        """
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
""",
        UNARY.format(name="tanh", value="(math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)", slope="(1 - t**2)"),
        UNARY.format(name="exp", value="math.exp(x)", slope="out.data"),
        UNARY.format(name="log", value="math.log(x)", slope="1 / self.data"),
        UNARY.format(name="relu", value="0.0 if x < 0 else x", slope="(out.data > 0)"),
        UNARY.format(name="sigmoid", value="1 / (1 + math.exp(-x))", slope="t * (1 - t)"),
        "\n    def backward(self):\n",
        WALK,
    ]
)

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
        waiting, nodes = {}, [self]
        for node in nodes:
            for child, _ in node.edges:
                if id(child) not in waiting:
                    waiting[id(child)] = 0
                    nodes.append(child)
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
        return self.result(np.add, other, lambda g, x, y: (g, g))

    def __sub__(self, other):
        return self.result(np.subtract, other, lambda g, x, y: (g, -g))

    def __mul__(self, other):
        return self.result(np.multiply, other, lambda g, x, y: (g * y, g * x))

    def __truediv__(self, other):
        return self.result(np.divide, other, lambda g, x, y: (g / y, -g * x / (y * y)))

    def __pow__(self, other):
        return self.result(np.power, other, lambda g, x, y: (g * y * x ** (y - 1), g * x**y * np.log(x)))

    def result(self, f, other, shares):
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
ENGINES["composed"] = LECTURE  # in the manner of micrograd: a - b is two operations, a / b is two
for _old, _new in (
    (SUB, "\n    def __sub__(self, other):\n        return self + (-other)\n"),
    (DIV, "\n    def __truediv__(self, other):\n        return self * other**-1\n"),
    ("return Value(other) - self", "return other + (-self)"),
    ("return Value(other) / self", "return other * self**-1"),
):
    ENGINES["composed"] = ENGINES["composed"].replace(_old, _new)

# --- Mistakes ---------------------------------------------------------------------------------------------------
Replacements = list[tuple[str, str]]
TEXTS = {  # longer pieces of code, which the tables below call by a name
    "WALK": WALK,
    "RECURSIVE": """\
        self.grad = 1.0

        def walk(v):
            v._backward()
            for child in v._prev:
                walk(child)

        walk(self)
""",
    "RECURSIVE_ONCE": """\
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
    "BREADTH_FIRST": """\
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
    "TWO_LEVELS": """\
        self.grad = 1.0
        self._backward()
        for child in self._prev:
            child._backward()
""",
    "BACKWARD_OF_OPERANDS": """\
        self.grad = 1.0
        self._backward()
        for child in self._prev:
            child.backward()
""",
    "CLIPPED": """\
            node.grad = max(-1.0, min(1.0, node.grad))
            node._backward()
""",
    "EQUALITY": """\
    def __eq__(self, other):
        return self.data == other.data

    def __hash__(self):
        return hash(self.data)

    def __repr__""",
    "FORMULA": """\
    def __eq__(self, other):
        a, b = ((v.data, v._op, {p.data for p in v._prev}) for v in (self, other))
        return a == b

    def __hash__(self):
        return hash((self.data, self._op))

    def __repr__""",
    "SLOTS": "class Value:\n    __slots__ = 'data', 'grad', '_backward', '_prev', '_op', 'label'\n",
    "REPR": "    def __repr__",
    "IADD": "class Value:\n    def __iadd__(self, other):\n        self.data += other.data\n        return self\n",
    "ISUB": "class Value:\n    def __isub__(self, other):\n        return Value(self.data - other.data)\n",
    "CALL": "            node._backward()\n",
    "CLASS": "class Value:\n",
    "CLASS_WITH_OPERANDS": "class Value:\n    _prev = set()\n",
    "CLASS_WITH_LIST": "class Value:\n    _prev = []\n",
    "RULE_OF_OUT": "+= self.data * out.grad\n\n        out._backward",
    "RULE_OF_SELF": "+= self.data * out.grad\n\n        self._backward",
    "RULE_OF_OTHER": "+= self.data * out.grad\n\n        other._backward",
    "RULE_WITHIN_OTHER": "+= self.data * other.grad\n\n        other._backward",
}


def rows(table: str) -> list[tuple[str, str, Replacements, str]]:
    """Rows of a table: a title | an engine | text -> what stands in its place && ... \
    | what is to be said of it."""
    lines = [[cell.strip() for cell in line.split(" | ")] for line in table.strip().splitlines()]
    return [(title, engine, _replacements(changes), said) for title, engine, changes, said in lines]


def _replacements(changes: str) -> Replacements:
    pairs = [change.split(" -> ") for change in changes.split(" && ") if change]
    return [(TEXTS.get(old.strip(), old.strip()), TEXTS.get(new.strip(), new.strip())) for old, new in pairs]


MUTANTS = rows("""
assigns everywhere | lecture | grad += -> grad = | overwrites
assigns in * | lecture | += other.data * out.grad -> = other.data * out.grad \
    && += self.data -> = self.data | overwrites
assigns shares | pairs | child._grad += slope -> child._grad = slope | overwrites
assigns on the tape | tape | p.gradient += s -> p.gradient = s | overwrites
assigns in a dict | float32 | = grads.get(id(p), np.float32(0)) + s -> = s | overwrites
recursive calls | lecture | WALK -> RECURSIVE | paths
recursive calls, each node once | lecture | WALK -> RECURSIVE_ONCE && set(_children) -> tuple(_children) | order
breadth first | lecture | WALK -> BREADTH_FIRST && set(_children) -> tuple(_children) | depth
no visited | lecture | if v not in visited: -> if True: | paths
not reversed | lecture | in reversed(topo) -> in topo | direction
no walk | lecture | node._backward() -> pass && self.grad = 1.0 -> self.grad = 1.0; self._backward() | direction
forgets upstream in * | lecture | other.data * out.grad -> other.data \
    && self.data * out.grad -> self.data | upstream
forgets upstream in tanh | lecture | (1 - t**2) * out.grad -> (1 - t**2) | upstream
forgets upstream in + | lecture | 1.0 * out.grad -> 1.0 | upstream
forgets upstream everywhere | pairs | slope * node._grad -> slope | upstream
wrong sign in - | lecture | += -1 * out.grad -> += out.grad | sign
wrong sign in neg | pairs | [(self, -1.0)] -> [(self, 1.0)] | sign
wrong sign in / | lecture | -self.data / other.data**2 -> self.data / other.data**2 | sign
a and b swapped in / | lecture | += 1 / other.data -> += 1 / self.data \
    && -self.data / other.data**2 -> -other.data / self.data**2 | swapped
b / a | tape | a.val / b.val, (a, b) -> b.val / a.val, (a, b) | swapped
shares swapped in / | pairs | [(self, 1 / other.value), (other, -> [(other, 1 / other.value), (self, | swapped
no exponent | lecture | other * self.data ** (other - 1) -> self.data ** (other - 1) | exponent
no exponent's factor | pairs | n.value * self.value ** (n -> self.value ** (n \
    && (self, n * self -> (self, self | exponent
tanh' of the input | lecture | 1 - t**2 -> 1 - x**2 | tanh
tanh' of the input, paths | pairs | 1 - t * t -> 1 - self.value**2 | tanh
relu' of the output | lecture | out.data > 0 -> out.data >= 0 | relu
relu' is the output | lecture | (out.data > 0) -> out.data | relu
relu' asks upstream | lecture | (out.data > 0) * out.grad -> (out.grad > 0) * out.grad | relu
relu' of 0 | pairs | 1.0 if self.value > 0 else 0.0 -> 1.0 if 0.0 >= 0 else 0.0 | relu
a leaking relu' | lecture | (out.data > 0) -> (1 if out.data > 0 else 0.01) | relu
a set of operands | pairs | list(edges) -> set(edges) | repeated
a set of operands, slopes in a dict | pairs | list(edges) -> list(dict(edges).items()) | repeated
root not set | lecture | self.grad = 1.0 -> pass | root
root not set, tape | tape | self.gradient = 1.0 -> pass | root
reflected minus swapped | lecture | return Value(other) - self -> return self - other | reflected
reflected / swapped | pairs | return Scalar.lift(other) / self -> return self / other | reflected
equal numbers | lecture | REPR -> EQUALITY | equality
equal formulas | lecture | REPR -> FORMULA | equality
exp' of the input | lecture | out.data * out.grad -> self.data * out.grad | slope
log' of the output | lecture | 1 / self.data * out.grad -> 1 / out.data * out.grad | slope
sin' with a sign | pairs | math.cos(self.value)) -> -math.cos(self.value)) | sign
sigmoid' half done | lecture | t * (1 - t) * out -> (1 - t) * out | slope
upstream added | lecture | (1 - t**2) * out.grad -> (1 - t**2) + out.grad | slope
out.data for out.grad | lecture | (1 - t**2) * out.grad -> (1 - t**2) * out.data | upstream
a product that adds | tape | Var(a.val * b.val -> Var(a.val + b.val | value
exp raises | lecture | out.data * out.grad -> ou.data * out.grad | raises
gradients begin at 1 | lecture | self.grad = 0.0 -> self.grad = 1.0 | start
half a gradient for b | pairs | (other, self.value) -> (other, self.value / 2) | slope
the root has 2 | composed | self.grad = 1.0 -> self.grad = 2.0 | root
the root has its number | lecture | self.grad = 1.0 -> self.grad = self.data | root
minus is 1 times | composed | self * -1 -> self * 1 | value
a sum with a product's slopes | lecture | += 1.0 * out -> += other.data * self.data * out | slope
other.grad is assigned | composed | other.grad += self.data -> other.grad = self.data | overwrites
exp knows no operand | lecture | Value(t, (self,), "exp") -> Value(t, (), "exp") | severed
* knows one operand | lecture | other.data, (self, other), "*" -> other.data, (self,), "*" | severed
minus outside the graph | composed | self * -1 -> Value(-self.data) | slope
a rule that is not called | lecture | node._backward() -> node._backward | idle
backward() of the operands | lecture | WALK -> BACKWARD_OF_OPERANDS | reseeded
* in place | lecture \
    | out = Value(self.data * other.data -> self.data *= other.data; out = Value(self.data | mutates
halves only | lecture | self.data = data -> self.data = math.floor(data * 2) / 2 | mutates
other.grad += self.grad | lecture | other.grad += 1.0 * out.grad -> other.grad += 1.0 * self.grad | upstream
the exponent of a**n | lecture | ** (other - 1) -> ** other | slope
seen by number | composed | v not in visited -> v.data not in visited \
    && visited.add(v) -> visited.add(v.data) | equality
visited by _op | lecture | v not in visited -> v._op not in visited \
    && visited.add(v) -> visited.add(v._op) | visited
clipped | lecture | CALL -> CLIPPED | clipped
operands of the class | lecture | self._prev = set( -> self._prev.update( && CLASS -> CLASS_WITH_OPERANDS \
    | shared
a list of the class | lecture | self._prev = set(_children) -> self._prev += _children \
    && CLASS -> CLASS_WITH_LIST | shared
upstream is clipped | lecture | out.grad -> max(-1.0, min(1.0, out.grad)) | clipped
two levels | lecture | WALK -> TWO_LEVELS | levels
self._backward is set in * | lecture | RULE_OF_OUT -> RULE_OF_SELF | hook
other._backward is set in * | lecture | RULE_OF_OUT -> RULE_OF_OTHER | hook
other._backward with its own gradient | lecture | += other.data * out.grad -> += other.data * other.grad \
    && RULE_OF_OUT -> RULE_WITHIN_OTHER | hook
self._backward is set | lecture | out._backward = -> self._backward = | hook
both shares of * to self | lecture | other.grad += self.data -> self.grad += self.data | misplaced
both shares of * to other | lecture | self.grad += other.data * -> other.grad += other.data * | misplaced
both shares of + to self | lecture | other.grad += 1.0 -> self.grad += 1.0 | misplaced
both edges lead to self | pairs | (other, self.value)]) -> (self, self.value)]) | misplaced
six operations | lecture | in reversed(topo) -> in topo[::-1][:6] | levels
+= in place | lecture | CLASS -> IADD | mutates
-= outside of the graph | lecture | CLASS -> ISUB | severed
tanh beyond 3 | lecture | (1 - t**2) * out -> (1 - t**2 if abs(x) < 3 else 0) * out | slope
""")
MUTANTS += [  # and what holds for the lecture's engine holds for one whose operations are made of others
    (f"{title}, composed", "composed", replacements, mistake)
    for title, name, replacements, mistake in MUTANTS
    if name == "lecture" and all(old in ENGINES["composed"] for old, _ in replacements)
]

# Engines that are right in one pass, and the names of their limits.
LIMITED = rows("""
the lecture's | lecture |  | depth interior
no __radd__ | lecture | __radd__ -> _no_radd | depth interior missing
no __rsub__ | lecture | __rsub__ -> _no_rsub | depth interior missing
counts users | pairs |  | interior
a tape that starts anew | tape |  | interior missing
every path | paths |  | depth missing paths
single precision | float32 |  | missing
relu' of 0 is 1 | lecture | out.data > 0 -> self.data >= 0 | depth interior relu
-= in place of += - | lecture | self.grad += 1 * out.grad -> self.grad -= -out.grad | depth interior
0 in place of 0.0 | lecture | self.grad = 0.0 -> self.grad = 0 | depth interior
numbers in arrays | lecture | self.data = data -> self.data = data * np.ones(1) | depth interior
a list for all passes | lecture | topo = [] -> pass && visited = set() -> pass \
    && backward(self) -> backward(self, topo=[], visited=set()) | depth interior
operands in a list | lecture | set(_children) -> list(_children) && CLASS -> SLOTS | depth interior
""")


def engine(name: str, replacements: Replacements = []) -> Any:  # noqa: B006 - never changed
    """The class of an engine with replacements, or all its functions if the class alone has no operations."""
    text = ENGINES[name]
    for old, new in replacements:
        assert old in text, f"{old!r} is not in the engine {name!r}"
        text = text.replace(old, new)
    scope: dict[str, Any] = {"__name__": "learners_engine"}
    exec("import math\nimport numpy as np\n" + text, scope)
    return scope if name == "tape" else next(x for x in scope.values() if isinstance(x, type))
