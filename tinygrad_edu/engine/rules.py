"""Every operation, declared once: how to compute it, and how to pass a gradient back through it.

Names, here and everywhere:
  out, x, y    the result and the inputs of one operation: numbers, arrays, or Values
  slope        d(out)/d(input), the local derivative
  upstream     dL/d(out), the gradient of the result L for the output
  share        upstream * slope: this operation's part of dL/d(input)
  forward(*inputs) -> out      backward(upstream, out, *inputs) -> one share per input

To add an operation, derive its slopes in a comment, write its backward and declare it by `rule`, with domain,
kinks, formula and slope; a row in `testing/check/mathematics.py` tests it. Elsewhere: `@rule(backward=...)`.

A convention decides the slope at a kink: relu' = 0, abs' = 0, leaky_relu' and elu' = alpha; equal inputs of max
and min get equal shares. The second derivative there is that of the piece at and below it: 0, but alpha for elu.

Value and slopes of floats are within 4 units in the last place of the exact ones, all over the domain. Exceptions:
  dot, logsumexp, slope of silu             4 units of the largest term, where terms cancel; slope of gelu 5
  gelu below 0                              2 x^2 units; below -37.5, where Phi is subnormal, no digit is sure
  slopes of logsumexp, softmax              (max - x) / 2 units more: x - max is rounded before its exponential
"""

import operator

from .dispatch import is_array, plain

# A derivation, its backward and its declaration are one block each, which a formatter would tear apart.
# fmt: off
# ruff: noqa: F405  # the names that a rule may use are listed once, in elementary.__all__
from .elementary import *  # noqa: F403
from .rule import RULES, Interval, Rule, rule

__all__ = ["ADD", "DIV", "MUL", "NEG", "POW", "POW_N", "RULES", "SUB", "Interval", "Rule", "rule"]

# --- Arithmetic ----------------------------------------------------------------------------------------

# Nudge x by h: (x+h) + y grows by h, so both slopes are 1.
def _add_backward(upstream, out, x, y): return upstream, upstream
ADD = rule(operator.add, n_inputs=2, symbol="+", backward=_add_backward, formula="x + y", slope="1, 1",
     called="otherwise", template="(a + b) / 2; (a + 1) / 2; (1 + a) / 2")

def _sub_backward(upstream, out, x, y): return upstream, -upstream
SUB = rule(operator.sub, n_inputs=2, symbol="-", backward=_sub_backward, formula="x - y", slope="1, -1",
     called="otherwise", template="(a - b) / 2; 1 - a / 2; a / 2 - 1")

# (x+h)*y - x*y = h*y, so the slope for x is y; by symmetry the slope for y is x.
def _mul_backward(upstream, out, x, y): return upstream * y, upstream * x
MUL = rule(operator.mul, n_inputs=2, symbol="*", backward=_mul_backward, formula="x * y", slope="y, x",
     called="otherwise", template="a * b / 4; a * a / 4; 2 * a / 4")

# x * (1/y): 1/y for x, and x * (-1/y^2) = -out/y for y.
def _div_backward(upstream, out, x, y): return div(upstream, y), -upstream * div(out, y)

def _divisor_check(*inputs):
    """no division by 0"""
    if inputs[-1] == 0:
        raise ZeroDivisionError("division by zero")
DIV = rule(div, symbol="/", backward=_div_backward, check=_divisor_check, formula="x / y", slope="1 / y, -x / y^2",
     called="otherwise", template="a / (1 + b * b); 1 / (1 + a * a)")

def _reciprocal(x): return div(1, x)
def _reciprocal_backward(upstream, out, x): return (-upstream * out * out,)
rule(_reciprocal, backward=_reciprocal_backward, check=_divisor_check, formula="1 / x", slope="-1 / x^2",
     template="reciprocal(1 + a * a)", ulps=(0.5, 3.5))

# x - y floor(x / y), with the sign of y. The floor jumps at the multiples of y, and is constant between them.
def _mod_backward(upstream, out, x, y): return upstream, upstream * div(plain(out) - plain(x), plain(y))
rule(mod, symbol="%", backward=_mod_backward, check=_divisor_check,
     formula="x - y floor(x / y)", slope="1, -floor(x / y)",
     template="(a + 5) % 16 / 4; (a / 4 + 25) % (16 + b / 2) / 4")

def _neg_backward(upstream, out, x): return (-upstream,)
NEG = rule(operator.neg, n_inputs=1, symbol="-", backward=_neg_backward, formula="-x", slope="-1",
     called="otherwise", template="-a", ulps=(0, 0))

def _abs_backward(upstream, out, x): return (upstream * sign(x),)
rule(operator.abs, n_inputs=1, backward=_abs_backward, kinks=(0.0,), formula="|x|", slope="sign(x)",
     called="otherwise", ulps=(0, 0))

def _sign_backward(upstream, out, x): return (0 * out,)  # and nan for nan
rule(sign, backward=_sign_backward, kinks=(0.0,), formula="-1, 0 or 1", slope="0", ulps=(0, 0))

def _detach(x): return x
def _detach_backward(upstream, out, x): return (0,)
rule(_detach, backward=_detach_backward, formula="x, as a constant", slope="0", template="a + 0 * detach(a)")

# --- Powers --------------------------------------------------------------------------------------------

def _pow_check(x, exponent):
    """no negative power of 0, no non-integer power of a negative number"""
    if x == 0 and exponent < 0:
        raise ZeroDivisionError("0 has no negative power")
    if x < 0 and exponent % 1:
        raise ValueError("a negative base needs an integer exponent")

# y x^(y-1), or y out/x where y - 1 would round away digits of y.
# x + 0 turns -0.0 into 0.0: y - 1 may round to -1, and -0.0^-1 is -inf.
def _pow_slope(out, x, y):
    return where((y < 0.5) * (1 - equal(x, 0)), div(y * out, x), y * pow(x + 0, y - 1))

# x^y = e^(y log x): out log(x) for y, and at x = 0 the convention 0; at 0^0 it is 0 for x as well.
def _pow_backward(upstream, out, x, y):
    slope_x = where(equal(x, 0) * equal(y, 0), 0 * x, _pow_slope(out, x, y))
    slope_y = where(equal(x, 0), 0 * y, out * log(x))
    return upstream * slope_x, upstream * slope_y
POW = rule(pow, symbol="**", backward=_pow_backward, check=_pow_check,
           formula="x^y", slope="y x^(y-1), x^y log(x)", called="otherwise",
     template="2 ** (a / 2); (0.5 + sigmoid(a)) ** (b / 2)")

def _pow_n(x, *, exponent=2): return pow(x, exponent)
def _pow_n_backward(upstream, out, x, *, exponent):
    if x.__class__ is float and 1e-100 < x < 1e100 and 0.5 <= exponent <= 3:  # the usual case, in less time
        return (upstream * (exponent * x ** (exponent - 1)),)
    if exponent > 2**53:  # exponent - 1 rounds to an even number, and the sign would be lost
        return (upstream * (exponent * (x * pow(x, exponent - 2))),)
    if exponent >= 0.5:  # as _pow_slope says, without its choices
        return (upstream * (exponent * pow(x, exponent - 1)),)
    if x.__class__ is float and x and exponent:  # the same number, in a third of the time
        return (upstream * div(exponent * out, x),)
    return (upstream * (_pow_slope(out, x, exponent) if exponent else 0 * sign(x)),)  # 0 at inf, nan at nan
POW_N = rule(_pow_n, symbol="**{exponent}", backward=_pow_n_backward, check=_pow_check,
             formula="x^exponent", slope="exponent x^(exponent-1)", called="otherwise",
     template="a**2 / 4; a**3 / 16; (1 + a * a) ** -2; (1 + a * a / 2) ** 0.5", ulps=(1, 0.5))

# sqrt(x)^2 = x: differentiate both sides, 2 out slope = 1. (+ 0 makes the slope at -0.0 inf, not -inf.)
def _sqrt_backward(upstream, out, x): return (div(upstream, 2 * out + 0),)
rule(sqrt, backward=_sqrt_backward, domain=(Interval(0),), formula="x^(1/2)", slope="1 / (2 sqrt(x))",
     template="sqrt(1 + a * a / 2)", ulps=(0.5, 2))

# --- Exponentials and logarithms -----------------------------------------------------------------------

def _exp_backward(upstream, out, x): return (upstream * out,)
rule(exp, backward=_exp_backward, formula="e^x", slope="e^x", template="exp(tanh(a))", ulps=(1, 1))

# 2^x = e^(x log 2).
def _exp2_backward(upstream, out, x): return (upstream * (out * constants(x)[2]),)
rule(exp2, backward=_exp2_backward, formula="2^x", slope="2^x log(2)", template="exp2(tanh(a))", ulps=(1, 4))

def _expm1_backward(upstream, out, x): return (upstream * exp(x),)
rule(expm1, backward=_expm1_backward, formula="e^x - 1", slope="e^x", template="expm1(tanh(a))", ulps=(1, 1))

# e^out = x: differentiate both sides, e^out slope = 1, so the slope is 1/x.
POSITIVE = (Interval(0, open=True),)
def _log_backward(upstream, out, x): return (div(upstream, x),)
rule(log, backward=_log_backward, domain=POSITIVE, formula="the natural logarithm of x", slope="1 / x",
     template="log(1 + a * a)", ulps=(1, 0.5))

# log(x) / log(2), log(x) / log(10).
def _log2_backward(upstream, out, x): return (div(upstream / constants(x)[2], x),)
rule(log2, backward=_log2_backward, domain=POSITIVE, formula="log(x) / log(2)", slope="1 / (x log(2))",
     template="log2(1 + a * a) / 2", ulps=(2, 3.5))

def _log10_backward(upstream, out, x): return (div(upstream / constants(x)[3], x),)
rule(log10, backward=_log10_backward, domain=POSITIVE, formula="log(x) / log(10)", slope="1 / (x log(10))",
     template="log10(1 + a * a)", ulps=(2, 3.5))

def _log1p_backward(upstream, out, x): return (div(upstream, 1 + x),)
rule(log1p, backward=_log1p_backward, domain=(Interval(-1, open=True),), formula="log(1 + x)", slope="1 / (1 + x)",
     template="log1p(a * a)", ulps=(1, 2.5))

# --- Trigonometric and hyperbolic functions ------------------------------------------------------------

def _sin_backward(upstream, out, x): return (upstream * cos(x),)
rule(sin, backward=_sin_backward, formula="the sine of x radians", slope="cos(x)", ulps=(1, 1))

def _cos_backward(upstream, out, x): return (-upstream * sin(x),)
rule(cos, backward=_cos_backward, formula="the cosine of x radians", slope="-sin(x)", ulps=(1, 1))

# sin/cos by the quotient rule: (cos^2 + sin^2) / cos^2 = 1/cos^2.
def _tan_backward(upstream, out, x): return (div(upstream, cos(x) * cos(x)),)
rule(tan, backward=_tan_backward, formula="sin(x) / cos(x)", slope="1 / cos(x)^2", template="tan(sin(a))",
     ulps=(1, 6))

# (1-x)(1+x) keeps its digits near 1, and 1 - x*x the digits of its own slope, -2x, near 0.
def _one_minus_square(x): return where(abs(x) < 0.5, 1 - x * x, (1 - x) * (1 + x))

# sin(out) = x: cos(out) slope = 1, and cos(out) = sqrt(1 - x^2).
def _asin_backward(upstream, out, x): return (div(upstream, sqrt(_one_minus_square(x))),)
rule(asin, backward=_asin_backward, domain=(Interval(-1, 1),), formula="the y with sin(y) = x, -pi/2 <= y <= pi/2",
     slope="1 / sqrt(1 - x^2)", template="asin(tanh(a) * 0.5)", ulps=(1, 3.5))

def _acos_backward(upstream, out, x): return (-div(upstream, sqrt(_one_minus_square(x))),)
rule(acos, backward=_acos_backward, domain=(Interval(-1, 1),), formula="the y with cos(y) = x, 0 <= y <= pi",
     slope="-1 / sqrt(1 - x^2)", template="acos(sin(a) * 0.75)", ulps=(1, 3.5))

# x^2 overflows early: beyond 1, slopes are written with r = 1/x.
def _near_or_inverse(x):
    near = abs(x) <= 1
    return near, 1 / where(near, 1, x)

# tan(out) = x: slope / cos^2(out) = 1, and 1/cos^2 = 1 + tan^2. With r: 1/(1 + 1/r^2) = r^2 / (1 + r^2).
def _atan_backward(upstream, out, x):
    near, r = _near_or_inverse(x)
    return (upstream * where(near, 1 / (1 + x * x), r * r / (1 + r * r)),)
rule(atan, backward=_atan_backward, formula="the y with tan(y) = x, -pi/2 < y < pi/2", slope="1 / (1 + x^2)",
     ulps=(1, 6.5))

def _sinh_backward(upstream, out, x): return (upstream * cosh(x),)
rule(sinh, backward=_sinh_backward, formula="(e^x - e^-x) / 2", slope="cosh(x)", template="sinh(sin(a))",
     ulps=(2, 2))

def _cosh_backward(upstream, out, x): return (upstream * sinh(x),)
rule(cosh, backward=_cosh_backward, formula="(e^x + e^-x) / 2", slope="sinh(x)", template="cosh(sin(a))",
     ulps=(2, 2))

# sinh(out) = x: cosh(out) slope = 1, and cosh(out) = sqrt(1 + x^2).
def _asinh_backward(upstream, out, x):
    near, r = _near_or_inverse(x)
    return (upstream * where(near, 1 / sqrt(1 + x * x), abs(r) / sqrt(1 + r * r)),)
rule(asinh, backward=_asinh_backward, formula="log(x + sqrt(x^2 + 1))", slope="1 / sqrt(x^2 + 1)", ulps=(2, 3.97))

# cosh(out) = x: sinh(out) slope = 1, and sinh(out) = sqrt(x^2 - 1). The product of the roots cannot overflow.
def _acosh_backward(upstream, out, x): return (div(upstream, sqrt(x - 1) * sqrt(x + 1)),)
rule(acosh, backward=_acosh_backward, domain=(Interval(1),), formula="log(x + sqrt(x^2 - 1))",
     slope="1 / sqrt(x^2 - 1)", template="acosh(2 + a * a) / 2", ulps=(2, 5))

# tanh(out) = x: (1 - tanh^2) slope = 1.
def _atanh_backward(upstream, out, x): return (div(upstream, _one_minus_square(x)),)
rule(atanh, backward=_atanh_backward, domain=(Interval(-1, 1, open=True),), formula="log((1 + x) / (1 - x)) / 2",
     slope="1 / (1 - x^2)", template="atanh(tanh(a) * 0.5)", ulps=(2, 4))

# 1 - tanh^2 has no digits left in the tails; there, 1/cosh^2 = 4t / (1+t)^2 with t = e^(-2|x|).
def _sech_squared(x):
    t = exp(-2 * abs(x))
    return where(abs(x) < 0.5, 1 - tanh(x) * tanh(x), 4 * t / ((1 + t) * (1 + t)))

def _tanh_backward(upstream, out, x): return (upstream * _sech_squared(x),)
rule(tanh, backward=_tanh_backward, formula="(e^x - e^-x) / (e^x + e^-x)", slope="1 - tanh(x)^2", ulps=(2, 10))

# erf is defined by its slope, 2/sqrt(pi) e^(-x^2); erfc = 1 - erf keeps the digits of the tail.
def _erf_backward(upstream, out, x): return (upstream * (bell(x, 1) * (2 / sqrt(constants(x)[0]))),)
rule(erf, backward=_erf_backward, formula="the area under its slope from 0 to x", slope="2 / sqrt(pi) e^(-x^2)",
     ulps=(1, 10.3))

def _erfc_backward(upstream, out, x): return (-upstream * (bell(x, 1) * (2 / sqrt(constants(x)[0]))),)
rule(erfc, backward=_erfc_backward, formula="1 - erf(x)", slope="-2 / sqrt(pi) e^(-x^2)", ulps=(5, 10.3))

# --- Activations ---------------------------------------------------------------------------------------

# sigmoid(x) = (1 + tanh(x/2)) / 2, so its slope is tanh'(x/2) / 4, accurate in both tails.
def _sigmoid_backward(upstream, out, x): return (upstream * (_sech_squared(x / 2) / 4),)
rule(sigmoid, backward=_sigmoid_backward, formula="1 / (1 + e^-x)", slope="s (1 - s), s = sigmoid(x)",
     ulps=(5, 6.59))

# log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which cannot overflow.
def _softplus(x): return maximum(x, 0.0) + log1p(exp(-abs(x)))
def _softplus_backward(upstream, out, x): return (upstream * sigmoid(x),)
rule(_softplus, backward=_softplus_backward, formula="log(1 + e^x)", slope="sigmoid(x)",
     template="softplus(a - 1)", ulps=(4.96, 5))

# The test is x <= 0, not x > 0, so that nan stays nan; heaviside(nan) is nan as well.
def _relu(x): return where(x <= 0, zero(x), x)
def _relu_backward(upstream, out, x): return (upstream * heaviside(x),)
rule(_relu, backward=_relu_backward, kinks=(0.0,), formula="x for x > 0, else 0", slope="1 for x > 0, else 0",
     ulps=(0, 0))

def _leaky_relu(x, *, alpha=0.01): return where(x <= 0, alpha * x, x)
def _leaky_relu_backward(upstream, out, x, *, alpha): return (upstream * where(x <= 0, alpha, heaviside(x)),)
rule(_leaky_relu, backward=_leaky_relu_backward, kinks=(0.0,), formula="x for x > 0, else alpha x",
     slope="1 for x > 0, else alpha", template="leaky_relu(a); leaky_relu(a, alpha=0.25)", ulps=(0.5, 0))

def _elu(x, *, alpha=1.0): return where(x <= 0, alpha * expm1(x), x)
def _elu_backward(upstream, out, x, *, alpha): return (upstream * where(x <= 0, alpha * exp(x), heaviside(x)),)
rule(_elu, backward=_elu_backward, kinks=(0.0,), formula="x for x > 0, else alpha (e^x - 1)",
     slope="1 for x > 0, else alpha e^x", template="elu(a); elu(a, alpha=0.5)", ulps=(1, 1))

# x Phi(x), with Phi the normal distribution function, erfc(-x/sqrt 2) / 2. By the product rule, with the bell
# curve phi = Phi': Phi + x phi. (In the lower tail, rounding x/sqrt 2 costs up to x^2 units in the last place.)
def _gelu(x): return damped(x, erfc(-x / constants(x)[1]) / 2)
def _gelu_backward(upstream, out, x):
    pi, root_2 = constants(x)[:2]
    return (upstream * (erfc(-x / root_2) / 2 + damped(x, bell(x, 0.5)) / sqrt(2 * pi)),)
rule(_gelu, backward=_gelu_backward, formula="x Phi(x), Phi the normal distribution function",
     slope="Phi(x) + x Phi'(x)", ulps=(118, 111))

# x s with s = sigmoid(x). With h = e^(-|x|/2) it is x / (1 + h^2) for x >= 0, else x h^2 / (1 + h^2), where x h h
# keeps the digits that h^2 loses below -708. The slope is s + x s' with s' = h^2 / (1 + h^2)^2.
def _silu_terms(x):
    h = exp(where(x >= 0, -x, x) / 2)
    return h * h, damped(x, h) * h

def _silu(x):
    square, product = _silu_terms(x)
    return where(x >= 0, x, product) / (1 + square)

def _silu_backward(upstream, out, x):
    square, product = _silu_terms(x)
    sigmoid_term = where(x >= 0, 1 + square, square * (1 + square))
    return (upstream * ((sigmoid_term + product) / ((1 + square) * (1 + square))),)
rule(_silu, backward=_silu_backward, formula="x sigmoid(x)", slope="s + x s (1 - s), s = sigmoid(x)",
     ulps=(11.5, 24.9))

# --- Choices and reductions ----------------------------------------------------------------------------

def _where_backward(upstream, out, condition, x, y):
    return where(condition, 0, 0), where(condition, upstream, 0), where(condition, 0, upstream)
rule(where, backward=_where_backward, formula="x where the condition holds, else y", slope="0, 1, 0 or 0, 0, 1",
     called="otherwise", example=(1.0, 0.5, 2.0), template="where(relu(a), b, c); where(a > b, a, c)")

# The result moves with the input that it equals; k equal inputs get 1/k each. (nan equals nothing: 0/0 is nan.)
def _extreme_backward(upstream, out, *inputs):
    out, upstream = spread(out, inputs), spread(upstream, inputs)
    chosen = [equal(x, out) for x in inputs]
    count = spread(total(chosen[0]), inputs) if is_array(chosen[0]) and len(inputs) == 1 else sum(chosen)
    return tuple(div(upstream * c, count) for c in chosen)
rule(largest, name="max", backward=_extreme_backward, ties=True, formula="the largest input",
     slope="1 for the largest input, 1/k for each of k equal ones, else 0", template="max(a, b); max(a, b, c)")
rule(smallest, name="min", backward=_extreme_backward, ties=True, formula="the smallest input",
     slope="1 for the smallest input, 1/k for each of k equal ones, else 0", template="min(a, b)")

def _sum_backward(upstream, out, *inputs): return (spread(upstream, inputs),) * len(inputs)
rule(total, name="sum", symbol="+", backward=_sum_backward, formula="x1 + x2 + ...", slope="1, 1, ...",
     template="sum(a, b, c) / 3")

# The inputs come in the order x1, x2, ..., y1, y2, ...: each factor's slope is its partner.
def _dot(*inputs):
    n = len(inputs) // 2
    return total(*[x * y for x, y in zip(inputs[:n], inputs[n:], strict=True)])

def _dot_backward(upstream, out, *inputs):
    n = len(inputs) // 2
    upstream = spread(upstream, inputs[:n])
    return tuple(upstream * partner for partner in inputs[n:] + inputs[:n])
rule(_dot, backward=_dot_backward, formula="x1 y1 + x2 y2 + ..., the x before the y",
     slope="y1, y2, ..., x1, x2, ...", called="otherwise", template="dot([a, b], [c, d]) / 8")

# log(e^x1 + e^x2 + ...) with the largest input taken out, so that nothing overflows. The slopes are the softmax.
def _exponentials(inputs):
    top = largest(*inputs)
    top = where(abs(top) == inf, 0.0, top)
    return top, [exp(x - spread(top, inputs)) for x in inputs]

def _logsumexp(*inputs):
    top, exponentials = _exponentials(inputs)
    excess = total(*exponentials) - 1.0 if is_array(exponentials[0]) else total(*exponentials, -1.0)
    return top + log1p(excess)  # the largest input gives e^0 = 1

def _logsumexp_backward(upstream, out, *inputs):
    _, exponentials = _exponentials(inputs)
    share = spread(div(upstream, total(*exponentials)), inputs)
    return tuple(share * e for e in exponentials)
rule(_logsumexp, backward=_logsumexp_backward, formula="log(e^x1 + e^x2 + ...)",
     slope="e^xi / (e^x1 + e^x2 + ...), the softmax", template="logsumexp(a, b) / 2; logsumexp(a, b, c) / 2")
