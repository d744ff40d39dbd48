// What Math lacks, for the programs that javascript.py writes. A program contains those that it calls.

// The sum of floats, rounded once: Shewchuk, Adaptive Precision Floating-Point Arithmetic, 1997. As math.fsum.
function total(...terms) {
  const partials = [];
  for (let x of terms) {
    if (!Number.isFinite(x)) return terms.reduce((sum, term) => sum + term);
    let count = 0;
    for (let y of partials) {
      if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
      const high = x + y, low = y - (high - x);
      if (low) partials[count++] = low;
      x = high;
    }
    partials.length = count;
    partials.push(x);
  }
  let n = partials.length, high = n ? partials[--n] : 0, low = 0;
  while (n && !low) {
    const x = high, y = partials[--n];
    high = x + y;
    low = y - (high - x);
  }
  // Half-way between two floats: what is left below decides.
  if (n && ((low < 0 && partials[n - 1] < 0) || (low > 0 && partials[n - 1] > 0))) {
    const x = high + 2 * low;
    if (2 * low === x - high) high = x;
  }
  return high;
}

function maximum(x, y) { return x >= y || x !== x ? x : y; }

function minimum(x, y) { return x <= y || x !== x ? x : y; }

// In JavaScript, NaN ** 0 is 1, and 1 ** Infinity is NaN.
function power(x, y) {
  return x !== x || y !== y ? NaN : Math.abs(x) === 1 && Math.abs(y) === Infinity ? 1 : x ** y;
}

function sign(x) { return x !== x ? x : (x > 0) - (x < 0); }

function heaviside(x) { return x !== x ? x : +(x > 0); }

// With the sign of y, as in Python; x % y has that of x.
function modulo(x, y) {
  const rest = x % y;
  return rest === 0 ? (y < 0 ? -0 : 0) : (rest < 0) !== (y < 0) ? rest + y : rest;
}

function sigmoid(x) {
  const small = Math.exp(-Math.abs(x));
  return x >= 0 ? 1 / (1 + small) : small / (1 + small);
}

// e^(x^2) erfc(x) for x >= 0: by its Taylor series around the nearest multiple c of 1/4, where mpmath gave the
// value; y' = 2xy - 2/sqrt(pi), so the coefficients follow (n+1) a[n+1] = 2c a[n] + 2 a[n-1]. Above 4 by the
// continued fraction 1/sqrt(pi) 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...)))), NIST DLMF 7.9.
function erfcx(x) {
  if (x > 4) {
    let below = x;
    for (let k = 60; k > 0; k--) below = x + k / 2 / below;
    return 1 / (Math.sqrt(Math.PI) * below);
  }
  const known = [
    1.0, 0.7703465477309968, 0.6156903441929259, 0.5069376502931449, 0.427583576155807, 0.3678229164523611,
    0.3215854164543175, 0.2849722347374364, 0.25539567631050575, 0.23108725873039188, 0.2108063640611436,
    0.1936620962790687, 0.17900115118138996, 0.16633534842682188, 0.1552936556088943, 0.14558972127503855,
    0.13699945762506138,
  ];
  const place = Math.round(4 * x), c = place / 4, h = x - c;
  let before = known[place], a = 2 * c * before - 2 / Math.sqrt(Math.PI), h_n = h, sum = 0;
  const terms = [before];
  for (let n = 1; n < 24; n++) {
    terms.push(a * h_n);
    [before, a] = [a, (2 * c * a + 2 * before) / (n + 1)];
    h_n *= h;
  }
  while (terms.length) sum += terms.pop(); // the small ones first
  return sum;
}

// erfc(x) = e^(-x^2) erfcx(x); x is split at m, whose square is exact: x^2 = m^2 + (x - m)(x + m).
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x !== x || x > 28) return x === x ? 0 : x;
  const m = Math.round(64 * x) / 64;
  return Math.exp(-m * m) * (Math.exp((m - x) * (m + x)) * erfcx(x));
}

// 2/sqrt(pi) (x - x^3/3 + x^5/10 - ...) near 0, and 1 - erfc(x) elsewhere.
function erf(x) {
  if (!(Math.abs(x) < 0.75)) return x < 0 ? erfc(-x) - 1 : 1 - erfc(x);
  let power = x, sum = 0;
  const terms = [];
  for (let n = 0; n < 24; n++) {
    terms.push(power / (2 * n + 1));
    power *= -(x * x) / (n + 1);
  }
  while (terms.length) sum += terms.pop();
  return (2 / Math.sqrt(Math.PI)) * sum;
}

function numbers(x, n, name) {
  const all = [x].flat(Infinity).flatMap((part) => (ArrayBuffer.isView(part) ? Array.from(part) : [part]));
  if (all.length !== n) throw new TypeError(`${name} needs ${n} numbers, got ${all.length}`);
  return all;
}

function take(rows, index) {
  if (!(index in rows)) throw new RangeError(`${index} is no index from 0 to ${rows.length - 1}`);
  return rows[index];
}

// n adjoints: at every index the sum of its shares.
function placed(n, ...pairs) {
  const adjoints = new Array(n).fill(0);
  for (const [index, share] of pairs) adjoints[index] += share;
  return adjoints;
}
