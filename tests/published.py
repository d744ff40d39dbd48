"""Programs as people write and publish them: plain lists, `.data`, Python's max, and integers as indices."""

import math
import random
from typing import Any

from tinygrad_edu import Value


def matrix(rows: int, columns: int, std: float = 0.08, kind: Any = Value) -> list[list[Any]]:
    return [[kind(random.gauss(0, std)) for _ in range(columns)] for _ in range(rows)]


def linear(x: Any, w: Any) -> Any:
    return [sum(wi * xi for wi, xi in zip(wo, x)) for wo in w]  # noqa: B905 - as published


def softmax(logits: Any) -> Any:
    max_val = max(val.data for val in logits)
    exps = [(val - max_val).exp() for val in logits]
    total = sum(exps)
    return [e / total for e in exps]


def rmsnorm(x: Any) -> Any:
    ms = sum(xi * xi for xi in x) / len(x)
    scale = (ms + 1e-5) ** -0.5
    return [xi * scale for xi in x]


class LocalGrads:
    """The engine of karpathy/microgpt, without closures, in its own lines; and tanh."""

    __slots__ = ("_children", "_local_grads", "data", "grad")

    def __init__(self, data, children=(), local_grads=()):
        self.data, self.grad, self._children, self._local_grads = data, 0, children, local_grads

    def __add__(self, other):
        other = other if isinstance(other, LocalGrads) else LocalGrads(other)
        return LocalGrads(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other):
        other = other if isinstance(other, LocalGrads) else LocalGrads(other)
        return LocalGrads(self.data * other.data, (self, other), (other.data, self.data))

    def tanh(self):
        t = math.tanh(self.data)
        return LocalGrads(t, (self,), (1 - t**2,))

    # fmt: off
    def __pow__(self, n): return LocalGrads(self.data**n, (self,), (n * self.data ** (n - 1),))
    def log(self): return LocalGrads(math.log(self.data), (self,), (1 / self.data,))
    def exp(self): return LocalGrads(math.exp(self.data), (self,), (math.exp(self.data),))
    def relu(self): return LocalGrads(max(0, self.data), (self,), (float(self.data > 0),))
    def __neg__(self): return self * -1
    def __radd__(self, other): return self + other
    def __sub__(self, other): return self + (-other)
    def __rsub__(self, other): return other + (-self)
    def __rmul__(self, other): return self * other
    def __truediv__(self, other): return self * other**-1
    def __rtruediv__(self, other): return other * self**-1
    # fmt: on

    def backward(self):
        topo, visited = [], set()

        def build_topo(v):
            if v not in visited:
                visited.add(v)
                for child in v._children:
                    build_topo(child)
                topo.append(v)

        build_topo(self)
        self.grad = 1
        for v in reversed(topo):
            for child, local_grad in zip(v._children, v._local_grads):  # noqa: B905  # as published
                child.grad += local_grad * v.grad


class MicroGPT:
    """The model of karpathy/microgpt: `gpt` and `loss` in its own lines, with the globals as attributes.

    kind is the class of its parameters.
    """

    def __init__(self, vocab_size=27, n_embd=16, n_head=4, n_layer=1, seed=42, kind: Any = Value):
        random.seed(seed)
        self.n_layer, self.n_head, self.head_dim, self.block_size = n_layer, n_head, n_embd // n_head, 16
        sizes = {"wte": (vocab_size, n_embd), "wpe": (16, n_embd), "lm_head": (vocab_size, n_embd)}
        for i in range(n_layer):
            sizes |= {f"layer{i}.attn_{name}": (n_embd, n_embd) for name in ("wq", "wk", "wv", "wo")}
            sizes |= {f"layer{i}.mlp_fc1": (4 * n_embd, n_embd), f"layer{i}.mlp_fc2": (n_embd, 4 * n_embd)}
        self.state_dict = d = {name: matrix(*size, kind=kind) for name, size in sizes.items()}
        self.params = [p for mat in d.values() for row in mat for p in row]

    def gpt(self, token_id: Any, pos_id: int, keys: Any, values: Any) -> Any:
        state_dict, head_dim = self.state_dict, self.head_dim
        tok_emb = state_dict["wte"][token_id]
        pos_emb = state_dict["wpe"][pos_id]
        x = [t + p for t, p in zip(tok_emb, pos_emb)]  # noqa: B905
        x = rmsnorm(x)

        for li in range(self.n_layer):
            x_residual = x
            x = rmsnorm(x)
            q = linear(x, state_dict[f"layer{li}.attn_wq"])
            k = linear(x, state_dict[f"layer{li}.attn_wk"])
            v = linear(x, state_dict[f"layer{li}.attn_wv"])
            keys[li].append(k)
            values[li].append(v)
            x_attn = []
            for h in range(self.n_head):
                hs = h * head_dim
                q_h = q[hs : hs + head_dim]
                k_h = [ki[hs : hs + head_dim] for ki in keys[li]]
                v_h = [vi[hs : hs + head_dim] for vi in values[li]]
                attn_logits = [
                    sum(q_h[j] * k_h[t][j] for j in range(head_dim)) / head_dim**0.5 for t in range(len(k_h))
                ]
                attn_weights = softmax(attn_logits)
                head_out = [sum(attn_weights[t] * v_h[t][j] for t in range(len(v_h))) for j in range(head_dim)]
                x_attn.extend(head_out)
            x = linear(x_attn, state_dict[f"layer{li}.attn_wo"])
            x = [a + b for a, b in zip(x, x_residual)]  # noqa: B905
            x_residual = x
            x = rmsnorm(x)
            x = linear(x, state_dict[f"layer{li}.mlp_fc1"])
            x = [xi.relu() for xi in x]
            x = linear(x, state_dict[f"layer{li}.mlp_fc2"])
            x = [a + b for a, b in zip(x, x_residual)]  # noqa: B905

        return linear(x, state_dict["lm_head"])

    def loss(self, tokens: Any) -> Any:
        n = min(self.block_size, len(tokens) - 1)
        keys: Any = [[] for _ in range(self.n_layer)]
        values: Any = [[] for _ in range(self.n_layer)]
        losses = []
        for pos_id in range(n):
            token_id, target_id = tokens[pos_id], tokens[pos_id + 1]
            logits = self.gpt(token_id, pos_id, keys, values)
            probs = softmax(logits)
            loss_t = -probs[target_id].log()
            losses.append(loss_t)
        return (1 / n) * sum(losses)
