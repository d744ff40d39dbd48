"""Every operation, declared once: how to compute it, and how to pass a gradient back through it.

Names, here and everywhere:
  out, x, y    the result and the inputs of one operation: numbers, arrays, or Values
  slope        d(out)/d(input), the local derivative
  upstream     dL/d(out), the gradient that arrives from the side of the result L
  share        upstream * slope: this operation's part of dL/d(input)
  forward(*inputs) -> out      backward(upstream, out, *inputs) -> one share per input

To add an operation, derive its slopes in a comment, write its backward and declare it by `rule`, with domain and
kinks; a row in `testing/mathematics.py` then proves it. From outside the package, decorate: `@rule(backward=...)`.

At a kink a convention decides: relu' = 0, abs' = 0, leaky_relu' and elu' = alpha, and equal inputs of max and min
share evenly. The second derivative there is that of the piece at and below the kink: 0, but alpha for elu.

Floats come within 4 units in the last place of the exact value and slopes, all over the domain, or of the largest
term where terms cancel: in dot, logsumexp, the slopes of gelu and silu. In its lower tail gelu is within 2 x^2.
"""

import operator

from .dispatch import is_array
from .rule import RULES, Interval, Rule, rule

# A derivation, its backward and its declaration are one block each, which a formatter would tear apart.
# fmt: off
from .elementary import (  # isort: skip
    acos, asin, atan, bell, constants, cos, cosh, div, equal, erf, erfc, exp, expm1, heaviside, inf,
    largest, log, log1p, maximum, pow, sigmoid, sign, sin, sinh, smallest, spread, sqrt, tan, tanh, total,
    where, zero,
)

__all__ = ["ADD", "DIV", "MUL", "NEG", "POW", "POW_N", "RULES", "SUB", "Interval", "Rule", "rule"]

# --- Arithmetic ----------------------------------------------------------------------------------------

# Nudge x by h: (x+h) + y grows by h, so both slopes are 1.
def _add_backward(upstream, out, x, y): return upstream, upstream
ADD = rule(operator.add, n_inputs=2, symbol="+", backward=_add_backward)

def _sub_backward(upstream, out, x, y): return upstream, -upstream
SUB = rule(operator.sub, n_inputs=2, symbol="-", backward=_sub_backward)

# (x+h)*y - x*y = h*y, so the slope for x is y; by symmetry the slope for y is x.
def _mul_backward(upstream, out, x, y): return upstream * y, upstream * x
MUL = rule(operator.mul, n_inputs=2, symbol="*", backward=_mul_backward)

# x * (1/y): 1/y for x, and x * (-1/y^2) = -out/y for y.
def _div_backward(upstream, out, x, y): return div(upstream, y), -upstream * div(out, y)

def _div_check(x, y):
    """y != 0"""
    if y == 0:
        raise ZeroDivisionError("division by zero")
DIV = rule(div, symbol="/", backward=_div_backward, check=_div_check)

def _neg_backward(upstream, out, x): return (-upstream,)
NEG = rule(operator.neg, n_inputs=1, symbol="-", backward=_neg_backward)

def _abs_backward(upstream, out, x): return (upstream * sign(x),)
rule(operator.abs, n_inputs=1, backward=_abs_backward, kinks=(0.0,))

# --- Powers --------------------------------------------------------------------------------------------

def _pow_check(x, exponent):
    """no negative power of 0, no broken power of a negative number"""
    if x == 0 and exponent < 0:
        raise ZeroDivisionError("0 has no negative power")
    if x < 0 and exponent % 1:
        raise ValueError("a negative base needs a whole exponent")

# y x^(y-1), or y out/x where y - 1 would round away digits of y.
def _pow_slope(out, x, y):
    return where((y < 0.5) * (1 - equal(x, 0)), div(y * out, x), y * pow(x, y - 1))

# x^y = e^(y log x): out log(x) for y, and at x = 0 the convention 0; at 0^0 it is 0 for x as well.
def _pow_backward(upstream, out, x, y):
    slope_x = where(equal(x, 0) * equal(y, 0), 0 * x, _pow_slope(out, x, y))
    slope_y = where(equal(x, 0), 0 * y, out * log(x))
    return upstream * slope_x, upstream * slope_y
POW = rule(pow, symbol="**", backward=_pow_backward, check=_pow_check)

def _pow_n(x, *, exponent=2): return pow(x, exponent)
def _pow_n_backward(upstream, out, x, *, exponent):
    return (upstream * (_pow_slope(out, x, exponent) if exponent else 0 * x),)
POW_N = rule(_pow_n, symbol="**{exponent}", backward=_pow_n_backward, check=_pow_check)

# sqrt(x)^2 = x: differentiate both sides, 2 out slope = 1. (+ 0 makes the slope at -0.0 inf, not -inf.)
def _sqrt_backward(upstream, out, x): return (div(upstream, 2 * out + 0),)
rule(sqrt, backward=_sqrt_backward, domain=(Interval(0),))

# --- Exponentials and logarithms -----------------------------------------------------------------------

def _exp_backward(upstream, out, x): return (upstream * out,)
rule(exp, backward=_exp_backward)

def _expm1_backward(upstream, out, x): return (upstream * exp(x),)
rule(expm1, backward=_expm1_backward)

# e^out = x: differentiate both sides, e^out slope = 1, so the slope is 1/x.
def _log_backward(upstream, out, x): return (div(upstream, x),)
rule(log, backward=_log_backward, domain=(Interval(0, open=True),))

def _log1p_backward(upstream, out, x): return (div(upstream, 1 + x),)
rule(log1p, backward=_log1p_backward, domain=(Interval(-1, open=True),))

# --- Trigonometric and hyperbolic functions ------------------------------------------------------------

def _sin_backward(upstream, out, x): return (upstream * cos(x),)
rule(sin, backward=_sin_backward)

def _cos_backward(upstream, out, x): return (-upstream * sin(x),)
rule(cos, backward=_cos_backward)

# sin/cos by the quotient rule: (cos^2 + sin^2) / cos^2 = 1/cos^2.
def _tan_backward(upstream, out, x): return (div(upstream, cos(x) * cos(x)),)
rule(tan, backward=_tan_backward)

# sin(out) = x: cos(out) slope = 1, and cos(out) = sqrt(1 - x^2); (1-x)(1+x) keeps its digits near 1.
def _asin_backward(upstream, out, x): return (div(upstream, sqrt((1 - x) * (1 + x))),)
rule(asin, backward=_asin_backward, domain=(Interval(-1, 1),))

def _acos_backward(upstream, out, x): return (-div(upstream, sqrt((1 - x) * (1 + x))),)
rule(acos, backward=_acos_backward, domain=(Interval(-1, 1),))

# tan(out) = x: slope / cos^2(out) = 1, and 1/cos^2 = 1 + tan^2.
def _atan_backward(upstream, out, x): return (div(upstream, 1 + x * x),)
rule(atan, backward=_atan_backward)

def _sinh_backward(upstream, out, x): return (upstream * cosh(x),)
rule(sinh, backward=_sinh_backward)

def _cosh_backward(upstream, out, x): return (upstream * sinh(x),)
rule(cosh, backward=_cosh_backward)

# 1 - tanh^2 has no digits left in the tails; there, 1/cosh^2 = 4t / (1+t)^2 with t = e^(-2|x|).
def _sech_squared(x):
    t = exp(-2 * abs(x))
    return where(abs(x) < 0.5, 1 - tanh(x) * tanh(x), 4 * t / ((1 + t) * (1 + t)))

def _tanh_backward(upstream, out, x): return (upstream * _sech_squared(x),)
rule(tanh, backward=_tanh_backward)

# erf is defined by its slope, 2/sqrt(pi) e^(-x^2); erfc = 1 - erf keeps the digits of the tail.
def _erf_backward(upstream, out, x): return (upstream * (bell(x, 1) * (2 / sqrt(constants(x)[0]))),)
rule(erf, backward=_erf_backward)

def _erfc_backward(upstream, out, x): return (-upstream * (bell(x, 1) * (2 / sqrt(constants(x)[0]))),)
rule(erfc, backward=_erfc_backward)

# --- Activations ---------------------------------------------------------------------------------------

# sigmoid(x) = (1 + tanh(x/2)) / 2, so its slope is tanh'(x/2) / 4, accurate in both tails.
def _sigmoid_backward(upstream, out, x): return (upstream * (_sech_squared(x / 2) / 4),)
rule(sigmoid, backward=_sigmoid_backward)

# log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which cannot overflow.
def _softplus(x): return maximum(x, 0.0) + log1p(exp(-abs(x)))
def _softplus_backward(upstream, out, x): return (upstream * sigmoid(x),)
rule(_softplus, backward=_softplus_backward)

# x <= 0 is asked, not x > 0, so that nan stays nan; heaviside(nan) is nan as well.
def _relu(x): return where(x <= 0, zero(x), x)
def _relu_backward(upstream, out, x): return (upstream * heaviside(x),)
rule(_relu, backward=_relu_backward, kinks=(0.0,))

def _leaky_relu(x, *, alpha=0.01): return where(x <= 0, alpha * x, x)
def _leaky_relu_backward(upstream, out, x, *, alpha): return (upstream * where(x <= 0, alpha, heaviside(x)),)
rule(_leaky_relu, backward=_leaky_relu_backward, kinks=(0.0,))

def _elu(x, *, alpha=1.0): return where(x <= 0, alpha * expm1(x), x)
def _elu_backward(upstream, out, x, *, alpha): return (upstream * where(x <= 0, alpha * exp(x), heaviside(x)),)
rule(_elu, backward=_elu_backward, kinks=(0.0,))

# x Phi(x), with Phi the normal distribution function, erfc(-x/sqrt 2) / 2. By the product rule, with the bell
# curve phi = Phi': Phi + x phi. (In the lower tail, rounding x/sqrt 2 costs up to x^2 units in the last place.)
def _gelu(x): return x * (erfc(-x / constants(x)[1]) / 2)
def _gelu_backward(upstream, out, x):
    pi, root_2 = constants(x)
    return (upstream * (erfc(-x / root_2) / 2 + x * bell(x, 0.5) / sqrt(2 * pi)),)
rule(_gelu, backward=_gelu_backward)

# x s, with s = sigmoid(x): s + x s'.
def _silu(x): return x * sigmoid(x)
def _silu_backward(upstream, out, x): return (upstream * (sigmoid(x) + x * (_sech_squared(x / 2) / 4)),)
rule(_silu, backward=_silu_backward)

# --- Choices and reductions ----------------------------------------------------------------------------

def _where_backward(upstream, out, condition, x, y):
    return where(condition, 0, 0), where(condition, upstream, 0), where(condition, 0, upstream)
rule(where, backward=_where_backward)

# The result moves with the input that it equals; k equal inputs get 1/k each. (nan equals nothing: 0/0 is nan.)
def _extreme_backward(upstream, out, *inputs):
    out, upstream = spread(out, inputs), spread(upstream, inputs)
    chosen = [equal(x, out) for x in inputs]
    count = spread(total(chosen[0]), inputs) if is_array(chosen[0]) and len(inputs) == 1 else sum(chosen)
    return tuple(div(upstream * c, count) for c in chosen)
rule(largest, name="max", backward=_extreme_backward, ties=True)
rule(smallest, name="min", backward=_extreme_backward, ties=True)

def _sum_backward(upstream, out, *inputs): return (spread(upstream, inputs),) * len(inputs)
rule(total, name="sum", symbol="+", backward=_sum_backward)

# x1 y1 + x2 y2 + ..., the inputs in the order x1, x2, ..., y1, y2, ...: each factor's slope is its partner.
def _dot(*inputs):
    n = len(inputs) // 2
    return total(*[x * y for x, y in zip(inputs[:n], inputs[n:], strict=True)])

def _dot_backward(upstream, out, *inputs):
    n = len(inputs) // 2
    upstream = spread(upstream, inputs[:n])
    return tuple(upstream * partner for partner in inputs[n:] + inputs[:n])
rule(_dot, backward=_dot_backward)

# log(e^x1 + e^x2 + ...) with the largest input taken out, so that nothing overflows. The slopes are the softmax.
def _exponentials(inputs):
    top = largest(*inputs)
    top = where(abs(top) == inf, 0.0, top)
    return top, [exp(x - spread(top, inputs)) for x in inputs]

def _logsumexp(*inputs):
    top, exponentials = _exponentials(inputs)
    excess = total(*exponentials) - 1.0 if is_array(top) else total(*exponentials, -1.0)
    return top + log1p(excess)  # the largest input gives e^0 = 1

def _logsumexp_backward(upstream, out, *inputs):
    _, exponentials = _exponentials(inputs)
    share = spread(div(upstream, total(*exponentials)), inputs)
    return tuple(share * e for e in exponentials)
rule(_logsumexp, backward=_logsumexp_backward)
