// The graph and its numbers: forward, backward and paths. No drawing.

/** A graph from the page's data: node i has the rule RULES[rule[i]], or is a leaf; operands come before results. */
class Graph {
  constructor(data) {
    this.rule = data.rule; // -1 for a leaf
    this.size = data.rule.length;
    this.start = new Int32Array(this.size + 1); // node i has the operands operand[start[i]] ... operand[start[i + 1] - 1]
    for (let i = 0; i < this.size; i++) this.start[i + 1] = this.start[i] + (data.rule[i] < 0 ? 0 : RULES[data.rule[i]].n);
    this.operand = Int32Array.from(data.operands);
    this.interior = data.rule.flatMap((rule, i) => (rule < 0 ? [] : [i]));
    this.value = new Float64Array(this.size);
    this.gradient = new Float64Array(this.size);
    this.initial = new Map(); // of each leaf
    let leaf = 0;
    for (let i = 0; i < this.size; i++) if (data.rule[i] < 0) this.initial.set(i, Number(data.leaves[leaf++]));
    this.names = Array.from({ length: this.size }, (_, i) => data.names[i] ?? `#${i}`);
    this.root = this.size - 1;
    this.seed = Number(data.upstream);
    this.program = data.program;
    this.users = Array.from({ length: this.size }, () => []); // each once, in the order of the forward pass
    for (const i of this.interior) {
      for (let at = this.start[i]; at < this.start[i + 1]; at++) {
        const users = this.users[this.operand[at]];
        if (users.at(-1) !== i) users.push(i);
      }
    }
    this.reset();
  }

  operands(i) { return Array.from(this.operand.subarray(this.start[i], this.start[i + 1])); }

  isLeaf(i) { return this.rule[i] < 0; }

  ruleOf(i) { return RULES[this.rule[i]]; }

  reset() {
    for (const [i, x] of this.initial) this.value[i] = x;
    this.run();
  }

  set(leaf, x) {
    this.value[leaf] = x;
    this.run();
  }

  run() {
    this.forward();
    this.backward(this.interior.length);
  }

  forward() {
    const { value, operand, start } = this;
    for (const i of this.interior) {
      const rule = RULES[this.rule[i]], at = start[i];
      if (rule.n === 2) value[i] = rule.forward(value[operand[at]], value[operand[at + 1]]);
      else if (rule.n === 1) value[i] = rule.forward(value[operand[at]]);
      else value[i] = rule.forward(...this.inputs(i));
    }
  }

  /** The gradients after so many steps of the backward pass: all of them after interior.length. */
  backward(steps) {
    this.gradient.fill(0);
    this.gradient[this.root] = this.seed;
    for (let k = 0; k < steps; k++) {
      const i = this.interior.at(-1 - k);
      const shares = this.shares(i, this.gradient[i]);
      for (let j = 0; j < shares.length; j++) this.gradient[this.operand[this.start[i] + j]] += shares[j];
    }
  }

  inputs(i) { return this.operands(i).map((p) => this.value[p]); }

  shares(i, upstream) { return RULES[this.rule[i]].backward(upstream, this.value[i], ...this.inputs(i)); }

  slopes(i) { return this.shares(i, 1).map(Number); }

  /** All nodes that i was computed from, or with along = "users" all that were computed from it. */
  reach(i, along) {
    const related = new Set(), stack = [i];
    while (stack.length) {
      for (const next of along === "users" ? this.users[stack.pop()] : this.operands(stack.pop())) {
        if (!related.has(next)) {
          related.add(next);
          stack.push(next);
        }
      }
    }
    return related;
  }

  /** The paths from the result to a node with the largest products of slopes: [{nodes, product}], at most `top`. */
  paths(to, top = 5) {
    const below = this.reach(to, "users").add(to);
    const arrivals = new Map([[this.root, [{ product: 1, nodes: [this.root] }]]]);
    for (let k = this.interior.length - 1; k >= 0; k--) {
      const i = this.interior[k], here = arrivals.get(i);
      if (!here || i === to || !below.has(i)) continue;
      const slopes = this.slopes(i);
      this.operands(i).forEach((p, j) => {
        if (!below.has(p)) return;
        const more = here.map(({ product, nodes }) => ({ product: slopes[j] === 0 ? 0 : product * slopes[j], nodes: [...nodes, p] }));
        const all = [...(arrivals.get(p) ?? []), ...more];
        arrivals.set(p, all.sort((a, b) => magnitude(b.product) - magnitude(a.product)).slice(0, top));
      });
    }
    return arrivals.get(to) ?? [];
  }

  // --- Words ------------------------------------------------------------------------------------------------

  /** The operation that made node i, with its operands written as `write` says: a * b, -a, tanh(a). */
  expression(i, write = (p) => this.names[p]) {
    return this.ruleOf(i).form.replace(/\{(\d)\}/g, (_, place) => write(this.operand[this.start[i] + Number(place)]));
  }

  /** What the forward step of node i does: c = a * b = 2 * (-3) = -6. */
  forwardSentence(i) {
    const operands = this.operands(i), rule = this.ruleOf(i);
    const texts = agreeing(operands.map((p) => this.value[p]), this.value[i], (...numbers) => (operands.length > 8 ? NaN : rule.forward(...numbers)));
    const isCall = rule.form.endsWith(")"); // a comma keeps a sign apart
    const numbers = this.expression(i, (p) => (isCall ? texts[operands.indexOf(p)] : bracketed(texts[operands.indexOf(p)])));
    return `${this.names[i]} = ${this.expression(i)} = ${numbers} = ${four(this.value[i])}`;
  }

  /** What the backward step of node i does, with the reason for its slope. */
  backwardSentence(i) {
    const upstream = this.gradient[i], slopes = this.slopes(i), shares = this.shares(i, upstream);
    const parts = this.operands(i).slice(0, 8).map((p, j) => {
      const share = four(Number(shares[j]));
      const factors = agreeing([upstream, slopes[j]], Number(shares[j]), (x, y) => x * y);
      const product = `upstream * slope = ${factors[0]} * ${bracketed(factors[1])} = ${share}`;
      return `${this.names[p]} receives ${slopes[j] === 1 ? `upstream = ${share}` : product}`;
    });
    if (slopes.length > 8) parts.push(`and ${(slopes.length - 8).toLocaleString("en")} more`);
    const reasons = this.slopeReasons(i);
    return `${this.names[i]} = ${this.expression(i)}: ${parts.join("; ")}.${reasons ? ` ${reasons}.` : ""}`;
  }

  /** Why the slopes are what they are: dy/dx = 1 - y^2 = 1 - 0.964^2 = 0.07065. */
  slopeReasons(i) {
    const rule = this.ruleOf(i), slopes = this.slopes(i), operands = this.operands(i);
    return rule.slopes.slice(0, 8).map((formula, k) => {
      if (/^-?1$/.test(formula)) return null;
      const put = (write) => formula.replace(/\b(out|x|y)\b/g, (word) => write(word === "out" ? i : operands[word === "y" ? 1 : 0]));
      const words = put((p) => this.names[p]), start = `d${this.names[i]}/d${this.names[operands[k]]} = `;
      if (formula.includes(" for ")) return `${start}${four(slopes[k])}: ${words}`;
      const used = [operands[0], operands[1] ?? operands[0], i];
      const texts = agreeing(used.map((p) => this.value[p]), slopes[k], rule.checks[k] ?? (() => NaN));
      const steps = new Set([words, put((p) => bracketed(texts[used.indexOf(p)])), four(slopes[k])]);
      return start + [...steps].join(" = ");
    }).filter(Boolean).join("; ");
  }

  /** The graph as Python, with the numbers that are here now; of a large one, the numbers that were changed. */
  python() {
    const leaves = [...this.initial.keys()];
    if (this.program.length) return this.program.map((text, k) => text + (k < leaves.length ? literal(this.value[leaves[k]]) : "")).join("");
    const changed = leaves.filter((i) => this.value[i] !== this.initial.get(i));
    return changed.map((i) => `${this.names[i]}.data = ${literal(this.value[i])}`).join("\n") || "# nothing was changed";
  }
}

/** A number in Python. */
function literal(x) { return Object.is(x, -0) ? "-0.0" : Number.isFinite(x) ? String(x) : `float("${four(x)}")`; }

function magnitude(x) { return x !== x ? Number.MAX_VALUE : Math.min(Math.abs(x), Number.MAX_VALUE); }

/** x with four digits, as Python's .4g writes it. */
function four(x) {
  if (x !== x) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  if (x === 0) return Object.is(x, -0) ? "-0" : "0";
  const [digits, exponent] = x.toExponential(3).split("e");
  const power = Number(exponent);
  if (power < -4 || power >= 4) return `${Number(digits)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  return String(Number(x.toPrecision(4)));
}

/** The numbers as texts, with the fewest digits from which `compute` gives the result as it is printed. */
function agreeing(numbers, result, compute) {
  for (let digits = 4; digits <= 17; digits++) {
    const texts = numbers.map((x) => (digits === 4 || !Number.isFinite(x) ? four(x) : String(Number(x.toPrecision(digits)))));
    if (four(compute(...texts.map(number))) === four(result)) return texts;
  }
  return numbers.map(four);
}

function number(text) { return Number({ nan: "NaN", inf: "Infinity", "-inf": "-Infinity" }[text] ?? text); }

function bracketed(number) { return number.startsWith("-") ? `(${number})` : number; }
