"""Prints the script of a live page in which every kind of operation occurs, for the linter."""

import re

import tinygrad_edu as tg

xs = [tg.Value(0.5) for _ in range(3)]
y = tg.logsumexp(xs) * tg.erf(xs[0]) * tg.erfc(xs[1]) + tg.sum(xs) + tg.max(xs) * tg.min(xs) * xs[0] ** xs[1]
y = y * tg.relu(xs[2]) * tg.sigmoid(xs[0]) * abs(xs[1]) + tg.mod(xs[0], 2.0)
(script,) = re.findall(r'<script type="module">(.*?)</script>', tg.live(y).to_html(), re.DOTALL)
print(script)
