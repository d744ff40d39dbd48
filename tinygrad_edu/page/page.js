// The page: what is folded, the picture, the controls, the time line, the details of one node, and the quiz.

const SVG = "http://www.w3.org/2000/svg";
const MANY = 60; // members of a group that are shown one by one
const AT_ONCE = 120; // boxes that are open when the page opens
const LINE = 17, CHARACTER = 7.3; // of the text in a box
const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const graph = new Graph(DATA);
const state = { time: 0, selected: graph.root, playing: null, quiz: null };
const last = graph.interior.length; // steps of one pass
const operations = new Map(graph.interior.map((i, k) => [i, k + 1])); // of each interior node its number in the forward pass

function make(tag, attributes = {}, ...children) {
  const svg = ["g", "rect", "text", "path", "tspan", "title", "desc"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// --- Folding: groups within groups. A group that is closed is one box ---------------------------------------

const home = new Array(graph.size); // the innermost group of each node
const whole = { name: "", parent: null, open: true, items: [] };
fold(whole);
settle(whole);

/** Puts into the whole what is in it, nodes and groups {name, parent, open, items}: the modules as the names of parameters tell
 *  them, and repetitions. */
function fold(whole) {
  const groups = DATA.scopes.map(([name]) => ({ name, open: false, items: [] }));
  const into = (item, scope) => (groups[scope] ?? whole).items.push(item);
  groups.forEach((group, k) => {
    group.parent = groups[DATA.scopes[k][1]] ?? whole;
    into(group, DATA.scopes[k][1]);
  });
  DATA.scope.forEach((scope, i) => into(i, scope));
  for (const group of [whole, ...groups]) repetitions(group);
}

/** Puts what is many in a group into groups of its own: x ×784, Neuron ×128. */
function repetitions(group) {
  if (group.items.length <= MANY) return;
  const kinds = Map.groupBy(group.items, (item) => stem(isGroup(item) ? item.name.charAt(0).toUpperCase() + item.name.slice(1) : `${graph.isLeaf(item) ? "" : graph.ruleOf(item).symbol} ${DATA.names[item] ?? ""}`.trim()) || "number");
  group.items = [...kinds].flatMap(([kind, some]) => (some.length < 8 ? some : packed(group, `${kind} ×${some.length.toLocaleString("en")}`, some)));
}

/** A closed group of these. More than 200 lie in groups within it: 1 to 200, 201 to 400. */
function packed(parent, name, items, from = 1) {
  const pack = { name, parent, open: false, repeated: true, items }, size = 200 ** Math.floor(Math.log(items.length - 1) / Math.log(200));
  if (size > 1) {
    const starts = Array.from({ length: Math.ceil(items.length / size) }, (_, k) => k * size);
    pack.items = starts.map((at) => packed(pack, `${from + at} to ${from + Math.min(at + size, items.length) - 1}`, items.slice(at, at + size), from + at));
  } else for (const child of items.filter(isGroup)) child.parent = pack;
  return pack;
}

function isGroup(what) { return typeof what === "object"; }

function stem(name) { return name.replace(/\d+/g, ""); }

/** Tells each node its group, and each group its nodes and its place: that of the last of them in the forward pass. */
function settle(group) {
  for (const item of group.items) {
    if (isGroup(item)) settle(item);
    else home[item] = group;
  }
  group.members = group.items.flatMap((item) => item.members ?? [item]);
  group.place = group.members.reduce((a, b) => Math.max(a, b));
}

/** Opens the modules of one depth after those of the other, while there are few boxes. */
function openSome() {
  const modules = (group) => group.items.filter((item) => isGroup(item) && !item.repeated);
  let boxes = whole.items.length;
  for (let level = modules(whole); level.length; level = level.flatMap(modules)) {
    boxes += level.reduce((sum, group) => sum + group.items.length - 1, 0);
    if (boxes > AT_ONCE) return;
    for (const group of level) group.open = true;
  }
}

/** The box in which node i is seen: its own number, or the outermost closed group around it. */
function seen(i) {
  let shown = i;
  for (let group = home[i]; group; group = group.parent) if (!group.open) shown = group;
  return shown;
}

// --- The picture --------------------------------------------------------------------------------------------

let boxes = new Map(); // what is shown: node or group -> {w, h, x, y, element, ...}
let arrows = [];

/** Lays out a group that is open; returns its boxes and its size. */
function arrange(group) {
  const items = group.items.map(boxFor).sort((a, b) => a.place - b.place);
  const byWhat = new Map(items.map((item) => [item.what, item]));
  const inside = (i) => { // the box of this group in which node i lies; undefined if it lies elsewhere
    let what = i, around = home[i];
    while (around && around !== group) [what, around] = [around, around.parent];
    return around ? byWhat.get(what) : undefined;
  };
  for (const i of group.members) {
    const head = inside(i);
    for (const tail of graph.operands(i).map(inside)) if (tail && tail.place < head.place) head.inputs.add(tail);
  }
  return { items, ...layered(items) };
}

/** What the layout needs to know of a node or a group. */
function boxFor(what) {
  const box = { what, place: what.place ?? what, inputs: new Set() };
  if (what.open) {
    const inner = arrange(what);
    return { ...box, inner, w: Math.max(inner.width + 24, what.name.length * CHARACTER + 50), h: inner.height + 44 };
  }
  const head = isGroup(what) ? short(`+ ${what.name}`) : headOf(what);
  return { ...box, w: Math.max(head.length, 16) * CHARACTER + 16, h: 3 * LINE + 10 };
}

/** The name of a node, a parameter's without the modules that the frame around it says, and its operation. */
function headOf(i) {
  const operation = graph.isLeaf(i) ? "" : graph.ruleOf(i).symbol, full = DATA.names[i] ?? "";
  const name = kindOf(i) === "parameter" ? full.split(".").at(-1) : full;
  return short(name && operation ? `${name} = ${operation}` : operation || name || "number");
}

function short(text) { return text.length > 40 ? `${text.slice(0, 39)}…` : text; }

function draw() {
  size = arrange(whole);
  boxes = new Map();
  arrows = [];
  const frames = make("g"), lines = make("g"), nodes = make("g");
  (function put(items, dx, dy) {
    for (const item of items) {
      [item.dx, item.dy] = [dx, dy];
      [item.cx, item.cy] = [item.x + dx, item.y + dy];
      item.arrows = new Map();
      boxes.set(item.what, item);
      const left = item.cx - item.w / 2, above = item.cy - item.h / 2;
      if (item.inner) {
        frames.append(frameOf(item, left, above));
        put(item.inner.items, left + 12, above + 34);
      } else nodes.append(boxOf(item, left, above));
    }
  })(size.items, 0, 0);
  for (const i of graph.interior) {
    const head = seen(i);
    graph.operands(i).forEach((p, j) => {
      const tail = seen(p), known = boxes.get(tail).arrows.get(head);
      if (known) known.edges.push([i, j]);
      else if (tail !== head) {
        const arrow = { tail, head, one: tail === p && head === i, edges: [[i, j]] };
        boxes.get(tail).arrows.set(head, arrow);
        arrows.push(arrow);
      }
    });
  }
  lines.append(...arrows.map(lineOf));
  $("picture").replaceChildren(frames, lines, nodes);
  zoom(scale);
  stop(boxes.get(seen(state.selected))?.element ?? boxes.values().next().value.element);
  refresh();
}

/** The one element of the picture where Tab stops; arrows go on from there. */
function stop(element) {
  for (const other of document.querySelectorAll("#picture [tabindex='0']")) other.setAttribute("tabindex", -1);
  element.setAttribute("tabindex", 0);
}

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The box that lies next in a direction: a place aside counts three times as far. */
function neighbour(element, key) {
  const [dx, dy] = WAYS[key], all = [...boxes.values()], from = all.find((item) => item.element === element);
  const far = ({ cx, cy }) => {
    const [x, y] = [cx - from.cx, cy - from.cy], along = x * dx + y * dy;
    return along > 1 ? along + 3 * (Math.abs(x * dy) + Math.abs(y * dx)) : Infinity;
  };
  return all.reduce((best, item) => (far(item) < far(best) ? item : best), from).element;
}

let visited = null; // the module that nextModule went to

/** The next module after the focused one, or after the last one visited, in the order of the picture. */
function nextModule() {
  const modules = [...boxes.keys()].filter(isGroup);
  visited = modules.find((what) => boxes.get(what).element === document.activeElement) ?? visited;
  visited = modules[(modules.indexOf(visited) + 1) % modules.length];
  boxes.get(visited)?.element.focus();
}

function frameOf(item, left, above) {
  const group = item.what;
  item.element = make("g", { class: "handle", tabindex: -1, role: "button", "aria-expanded": "true", "aria-label": `close ${group.name}` },
    make("rect", { x: left, y: above, width: item.w, height: 28, class: "grip" }),
    make("text", { x: left + 10, y: above + 20, class: "title" }, `− ${group.name}`));
  item.element.addEventListener("click", () => toggle(group));
  return make("g", { class: "frame" }, make("rect", { x: left, y: above, width: item.w, height: item.h, rx: 8 }), item.element);
}

function boxOf(item, left, above) {
  const { what, w, h } = item, group = isGroup(what);
  const kind = group ? "group" : kindOf(what);
  const rounded = { constant: h / 2, interior: 8, result: 8, group: 3 }[kind] ?? 0;
  const element = make("g", { class: `node ${kind}`, tabindex: -1, role: "button", transform: `translate(${left} ${above})` },
    make("rect", { width: w, height: h, rx: rounded, fill: `var(--${kind})` }));
  if (kind === "result") element.append(make("rect", { x: 3, y: 3, width: w - 6, height: h - 6, rx: 6, class: "inner" }));
  if (kind === "parameter") element.append(make("path", { d: `M${w - 12} 0 V12 H${w}`, class: "inner" }));
  item.texts = [1, 2, 3].map((line) => make("text", { x: w / 2, y: line * LINE, class: line === 1 ? "title" : "number" }));
  item.mark = make("text", { x: 4, y: -3, class: "mark" });
  item.description = make("desc");
  if (group) element.setAttribute("aria-expanded", "false");
  element.append(...item.texts, item.mark, item.description);
  item.element = element;
  element.addEventListener("click", (event) => {
    if (group) toggle(what);
    else {
      select(what);
      if (!event.detail && graph.isLeaf(what)) $("number").focus(); // by a key
    }
  });
  element.addEventListener("pointerenter", () => relate(what));
  element.addEventListener("pointerleave", () => relate(null));
  element.addEventListener("focus", () => {
    stop(element);
    if (!group) select(what, false);
  });
  if (!group && graph.isLeaf(what)) scrub(element, what);
  return element;
}

function kindOf(i) { return DATA.kinds[i] ?? (graph.isLeaf(i) ? "leaf" : "interior"); }

/** A curve from box to box, by way of the places that the layout keeps free for it. */
function lineOf(arrow) {
  const a = boxes.get(arrow.tail), b = boxes.get(arrow.head);
  const bends = (b.routes?.get(a) ?? []).map((bend) => [bend.x + b.dx, bend.y + b.dy]);
  let [x, y] = [a.cx + a.w / 2, a.cy], d = `M${x} ${y}`;
  const end = [b.cx - b.w / 2, b.cy];
  const [lx, ly] = bends[0] ?? [(x + end[0]) / 2, (y + end[1]) / 2];
  for (const [px, py] of [...bends, end]) {
    const half = Math.max(12, Math.abs(px - x) / 2);
    d += ` C${x + half} ${y} ${px - half} ${py} ${px} ${py}`;
    [x, y] = [px, py];
  }
  arrow.element = make("path", { d, class: "edge", "marker-end": "url(#tip)" });
  arrow.label = make("text", { class: "slope", x: lx, y: ly - 3 });
  return make("g", {}, arrow.element, arrow.label);
}

function toggle(group) {
  group.open = !group.open;
  draw();
  boxes.get(group)?.element.focus();
  if (group.open) fit();
}

// --- What the picture says now ------------------------------------------------------------------------------

/** When the time line computes a node; 0 for a leaf. */
function computedAt(i) { return operations.get(i) ?? 0; }

/** When the time line passes the gradient of a node on; never for a leaf. */
function passedOnAt(i) { return operations.has(i) ? 2 * last + 1 - operations.get(i) : Infinity; }

/** "" where the time line has passed a node, else what its box says: now, waiting, partial. */
function phase(i) {
  const t = state.time;
  if (t <= last) return t < computedAt(i) ? "waiting" : t > 0 && t === computedAt(i) ? "now" : "";
  if (t === 2 * last) return "";
  if (t === passedOnAt(i)) return "now";
  const complete = graph.users[i].filter((user) => passedOnAt(user) <= t).length;
  return complete === graph.users[i].length ? "" : complete ? "partial" : "waiting";
}

/** The texts and colours of all boxes and edges that are shown. */
function refresh() {
  const t = state.time;
  graph.backward(Math.max(0, t - last));
  for (const [what, item] of boxes) {
    if (item.inner) continue;
    if (isGroup(what)) refreshGroup(what, item);
    else refreshNode(what, item);
  }
  for (const arrow of arrows) {
    const [i, j] = arrow.edges[0];
    const reached = passedOnAt(i) <= t, times = arrow.edges.length > 1 ? `×${arrow.edges.length.toLocaleString("en")}` : "";
    if (!arrow.one) arrow.label.textContent = times;
    else arrow.label.textContent = reached && !state.quiz ? `${four(graph.slopes(i)[j])} ${times}` : "";
    arrow.element.classList.toggle("now", t < 2 * last && arrow.edges.some(([node]) => phase(node) === "now"));
  }
  details();
  timeline();
}

function refreshNode(i, item) {
  const t = state.time, now = phase(i), known = computedAt(i) <= t;
  const reached = i === graph.root ? t >= last : graph.users[i].some((user) => passedOnAt(user) <= t);
  const hidden = state.quiz && !state.quiz.known.has(i);
  const gradient = hidden ? "?" : reached ? four(graph.gradient[i]) : "–";
  const data = known ? four(graph.value[i]) : "–", formula = graph.isLeaf(i) ? "" : ` = ${graph.expression(i)}`;
  const wrong = (known && !Number.isFinite(graph.value[i])) || (reached && !Number.isFinite(graph.gradient[i]));
  const [sign, spoken] = { now: ["▶ now", ", current step"], waiting: ["", ", waiting"], partial: ["… so far", ", gradient not complete"] }[now] ?? ["", ""];
  write(item, [headOf(i), `data ${data}`, `grad ${gradient}`], wrong ? "⚠" : sign,
    { now: now === "now", waiting: now === "waiting", partial: now === "partial", wrong, selected: i === state.selected, asked: state.quiz?.node === i },
    `${graph.names[i]}${formula}, data ${data}, gradient ${gradient}${spoken}${wrong ? ", not finite" : ""}`);
  item.description.textContent = !formula || !known || state.quiz ? "" : t > last ? graph.backwardSentence(i) : graph.forwardSentence(i);
}

function refreshGroup({ name, members }, item) {
  const largest = four(members.reduce((most, i) => Math.max(most, Math.abs(graph.gradient[i]) || 0), 0));
  const now = state.time < 2 * last && members.some((i) => phase(i) === "now");
  write(item, [`+ ${name}`, `${members.length.toLocaleString("en")} nodes`, state.quiz || state.time <= last ? "" : `|grad| ≤ ${largest}`],
    now ? "▶ now, inside" : "", { now }, `open ${name}: ${members.length} nodes, largest gradient ${largest}`);
}

function write({ element, texts, mark }, lines, sign, flags, label) {
  texts.forEach((text, k) => { text.textContent = lines[k]; });
  mark.textContent = sign;
  for (const [name, on] of Object.entries(flags)) element.classList.toggle(name, on);
  element.setAttribute("aria-label", label);
}

/** Shows what a node depends on and what depends on it; null: all again. */
function relate(what) {
  const related = new Set();
  if (what !== null && !isGroup(what)) {
    for (const i of [what, ...graph.reach(what, "users"), ...graph.reach(what, "operands")]) related.add(seen(i));
  }
  for (const [other, item] of boxes) item.element.classList.toggle("dim", related.size > 0 && !item.inner && !related.has(other));
  for (const arrow of arrows) arrow.element.classList.toggle("dim", related.size > 0 && !(related.has(arrow.tail) && related.has(arrow.head)));
}

// --- Change a leaf ------------------------------------------------------------------------------------------

let earlier = 0, refusal = ""; // the number before one was typed, and what is said of a text that is none

function change(leaf, x, words = "") {
  refusal = words;
  graph.set(leaf, x);
  refresh(); // a browser tells of a move once for each frame
}

/** A leaf that is inf or nan has no number beside it. */
function nudge(leaf, x, digits) { if (Number.isFinite(x)) change(leaf, Number(x.toPrecision(digits))); }

/** Takes what is typed for the number of the selected leaf; what is refused is told, and the leaf keeps its number. */
function typed() {
  const text = $("number").value.trim(), x = Number(text);
  const refused = text === "" || !Number.isFinite(x);
  $("number").setAttribute("aria-invalid", String(refused));
  if (refused) change(state.selected, earlier, `${graph.names[state.selected]} stays ${four(earlier)}: "${text}" is no finite number.`);
  else change(state.selected, x); // 1e40 was a number on the way to 1e400
}

/** Arrows change the number of a field, with Shift ten times as fast; Enter and Escape go back to the leaf. */
function fieldKey(event) {
  const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  if (way) {
    const x = graph.value[state.selected], step = 10 ** Math.floor(Math.log10(Math.max(Math.abs(x), 1))) / (event.shiftKey ? 1 : 10);
    nudge(state.selected, x + way * step, 12);
    $("number").value = earlier = graph.value[state.selected];
  } else if (["Enter", "Escape"].includes(event.key)) {
    typed();
    $("number").value = graph.value[state.selected];
    boxes.get(seen(state.selected)).element.focus();
  } else return;
  event.preventDefault();
}

/** Dragging a leaf to the side changes its number: a pixel is a hundredth of its size, or of 1. */
function scrub(element, leaf) {
  element.classList.add("leaf-box");
  drag(element, (down) => {
    const x = graph.value[leaf], unit = Math.max(Math.abs(x), 1) / 100;
    let dragged = false;
    return (event) => {
      const way = event.clientX - down.clientX;
      dragged ||= Math.abs(way) > 3;
      if (dragged) nudge(leaf, x + way * unit, 4);
    };
  });
}

/** Where the pointer goes down on an element, `start` gets the event, and what it returns gets every move until it is up. */
function drag(element, start) {
  element.addEventListener("pointerdown", (down) => {
    down.stopPropagation();
    const move = start(down), over = new AbortController();
    window.addEventListener("pointermove", move, { signal: over.signal });
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => over.abort(), { signal: over.signal });
  });
}

// --- One node -----------------------------------------------------------------------------------------------

function select(i, show = true) {
  if (i !== state.selected) refusal = "";
  state.selected = i;
  if (show && seen(i) !== i) {
    for (let group = home[i]; group; group = group.parent) group.open = true;
    draw();
  } else refresh();
}

function details() {
  const i = state.selected, leaf = graph.isLeaf(i), x = graph.value[i];
  $("name").textContent = leaf ? graph.names[i] : `${graph.names[i]} = ${graph.expression(i)}`;
  $("edit").hidden = !leaf;
  if (leaf) {
    const initial = graph.initial.get(i), reach = Math.max(2, 2 * Math.abs(initial)), slider = $("slider");
    [slider.min, slider.max, slider.step] = [Math.min(x, initial - reach), Math.max(x, initial + reach), Number((reach / 200).toPrecision(1))];
    slider.value = x;
    slider.setAttribute("aria-label", `slider for ${graph.names[i]}`);
    if (document.activeElement !== $("number")) $("number").value = x; // what is being typed stays
    $("number").setAttribute("aria-label", `number of ${graph.names[i]}`);
  }
  say("rule", leaf ? "" : graph.ruleOf(i).about.join("\n"));
  say("line", DATA.lines[i]);
  const complete = state.time === 2 * last && !state.quiz;
  $("numbers").textContent = `data ${four(x)}${complete ? `, gradient ${four(graph.gradient[i])}` : ""}`;
  const rows = [];
  if (!leaf && !state.quiz) {
    const slopes = graph.slopes(i), shares = graph.shares(i, graph.gradient[i]);
    rows.push(["operand", "data", "slope", "share"]);
    graph.operands(i).slice(0, 12).forEach((p, j) => rows.push([graph.names[p], four(graph.value[p]), four(slopes[j]), complete ? four(Number(shares[j])) : "–"]));
  }
  $("slopes").replaceChildren(...rows.map((row, k) => make("tr", {}, ...row.map((text) => make(k ? "td" : "th", k ? {} : { scope: "col" }, text)))));
  say("why", leaf || state.quiz ? "" : graph.slopeReasons(i));
  const paths = complete && graph.size <= 20000 ? graph.paths(i) : [];
  $("paths").replaceChildren(...paths.map(({ product, nodes }) => make("li", {}, `${four(product)}: ${shortened(nodes.map((node) => graph.names[node])).join(" ← ")}`)));
  $("paths-part").hidden = !paths.length || i === graph.root;
}

/** Writes into a part of the panel; without a text the part is hidden. */
function say(id, text) {
  $(id).textContent = text ?? "";
  $(id).hidden = !text;
}

function shortened(names) { return names.length > 9 ? [...names.slice(0, 4), "…", ...names.slice(-4)] : names; }

// --- Time ---------------------------------------------------------------------------------------------------

/** Goes to a place on the time line: so many forward steps, then so many backward steps. A quiz needs all gradients. */
function go(time) {
  refusal = "";
  state.time = state.quiz ? 2 * last : Math.min(2 * last, Math.max(0, time));
  if (current() !== null && !state.quiz) state.selected = current(); // the panel says what its rule is
  refresh();
}

function current() {
  const t = state.time;
  if (t === 0) return null;
  return t <= last ? graph.interior[t - 1] : graph.interior[2 * last - t];
}

function timeline() {
  const t = state.time, i = current();
  $("time").value = t;
  $("time").setAttribute("aria-valuetext", t <= last ? `forward step ${t} of ${last}` : `backward step ${t - last} of ${last}`);
  let words;
  if (i === null) words = "The inputs are known; nothing is computed.";
  else if (state.quiz) words = "The gradients are for you to find.";
  else if (t === 2 * last && DATA.mode === "live" && !state.playing) words = `Drag a leaf to change it. ${graph.names[graph.root]} = ${four(graph.value[graph.root])}`;
  else if (t > last) words = `backward ${t - last} of ${last}: ${graph.backwardSentence(i)}`;
  else words = `forward ${t} of ${last}: ${graph.forwardSentence(i)}`;
  $("sentence").textContent = refusal || words;
  $("where").textContent = `${t} of ${2 * last}`;
  $("play").textContent = state.playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", state.playing ? "pause" : "play");
  // Not `disabled`, which would drop the focus of the button that was pressed.
  for (const [id, end] of [["first", 0], ["back", 0], ["next", 2 * last], ["end", 2 * last]]) $(id).setAttribute("aria-disabled", String(t === end));
}

function play() {
  if (state.playing) {
    clearInterval(state.playing);
    state.playing = null;
    timeline();
    return;
  }
  if (state.time === 2 * last) state.time = 0;
  state.playing = setInterval(() => {
    go(state.time + 1);
    if (state.time === 2 * last) play();
  }, matchMedia("(prefers-reduced-motion: reduce)").matches ? 2000 : 900);
  timeline();
}

// --- Pan and zoom -------------------------------------------------------------------------------------------

const MARGIN = 24; // around the picture, which is scrolled as any page is
let size = { width: 1, height: 1 }, scale = 1;

/** Shows the picture at a scale. Its middle stays where it is. */
function zoom(to) {
  const frame = $("graph"), canvas = $("canvas"), grown = to / scale, { clientWidth: width, clientHeight: height } = frame;
  const [x, y] = [(frame.scrollLeft + width / 2) * grown, (frame.scrollTop + height / 2) * grown];
  scale = to;
  canvas.setAttribute("viewBox", `${-MARGIN} ${-MARGIN} ${size.width + 2 * MARGIN} ${size.height + 2 * MARGIN}`);
  canvas.setAttribute("width", (size.width + 2 * MARGIN) * scale);
  canvas.setAttribute("height", (size.height + 2 * MARGIN) * scale);
  frame.scrollTo(x - width / 2, y - height / 2);
}

function fit() {
  const { clientWidth: width, clientHeight: height } = $("graph");
  zoom(Math.max(0.05, Math.min(1.5, width / (size.width + 2 * MARGIN), height / (size.height + 2 * MARGIN))));
}

// --- Quiz ---------------------------------------------------------------------------------------------------

function quiz() {
  state.quiz = state.quiz ? null : { known: new Set([graph.root]), score: 0, asked: 0 };
  $("quiz-part").hidden = !state.quiz;
  $("quiz").setAttribute("aria-pressed", String(Boolean(state.quiz)));
  $("verdict").textContent = "";
  if (state.quiz) {
    state.time = 2 * last;
    ask();
  }
  refresh();
}

/** Asks for the gradient of the last node of which all users are known. */
function ask() {
  const q = state.quiz;
  q.node = graph.names.findLastIndex((_, i) => !q.known.has(i) && graph.users[i].every((user) => q.known.has(user)));
  q.first = true; // neither a try nor a hint so far
  $("answer").value = "";
  $("quiz-form").hidden = q.node < 0;
  $(q.node < 0 ? "quiz" : "answer").focus();
  if (q.node < 0) {
    $("question").textContent = `All gradients found. Score: ${q.score} of ${q.asked}.`;
    return;
  }
  q.asked += 1;
  const users = graph.users[q.node].slice(0, 4).map((user) => `${graph.names[user]} = ${graph.expression(user)}, whose gradient is ${four(graph.gradient[user])}`);
  $("question").textContent = `What is the gradient of ${graph.names[q.node]} (data ${four(graph.value[q.node])})? It is used by ${users.join("; and by ")}.`;
}

function near(x, y) { return Math.abs(x - y) <= 0.01 * Math.abs(y) + 1e-9; }

/** The mistakes that an answer may show: the number that each leads to, and what to say. */
function mistakes(i) {
  const uses = graph.users[i].flatMap((user) => graph.operands(user).flatMap((p, j) => (p === i ? [{ user, slope: graph.slopes(user)[j] }] : [])));
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  return [
    [-graph.gradient[i], "The size is right, the sign is not."],
    [sum(uses.map(({ slope }) => slope)), "That is the slope alone: multiply it by the upstream gradient."],
    [sum(uses.map(({ user }) => graph.gradient[user])), "That is the upstream gradient alone: multiply it by the slope."],
    ...uses.map(({ user, slope }) => [slope * graph.gradient[user], `That is the share by way of ${graph.names[user]} alone: ${graph.names[i]} is used ${uses.length} times, and the shares add up.`]),
    [graph.value[i], "That is the data of the node, not its gradient."],
    [NaN, "Multiply the upstream gradient of each use by its slope, and add the shares."],
  ];
}

function answer(event) {
  event.preventDefault();
  const q = state.quiz, text = $("answer").value.trim(), x = Number(text), i = q.node;
  if (text === "" || Number.isNaN(x)) return;
  if (near(x, graph.gradient[i])) {
    q.score += Number(q.first);
    q.known.add(i);
    $("verdict").textContent = `Right: ${graph.names[i]}.grad = ${four(graph.gradient[i])}. Score: ${q.score}.`;
    ask();
  } else {
    q.first = false;
    $("verdict").textContent = `Not yet. ${mistakes(i).find(([number]) => number !== number || near(x, number))[1]}`;
  }
  refresh();
}

function hint() {
  state.quiz.first = false;
  const words = graph.users[state.quiz.node].map((user) => `${graph.names[user]} = ${graph.expression(user)}: slopes ${graph.slopes(user).map(four).join(", ")}. ${graph.slopeReasons(user)}`);
  $("verdict").textContent = `Hint: ${words.join("; ")}`;
}

// --- Controls -----------------------------------------------------------------------------------------------

function search() {
  const wanted = $("search").value.trim().toLowerCase();
  if (!wanted) return;
  const hits = graph.names.flatMap((name, i) => (name.toLowerCase().includes(wanted) ? [i] : []));
  const exact = hits.find((i) => graph.names[i].toLowerCase() === wanted) ?? hits[0];
  $("found").textContent = hits.length ? `${hits.length.toLocaleString("en")} found` : "not found";
  if (exact === undefined) return;
  select(exact);
  zoom(Math.max(scale, 0.8));
  boxes.get(exact).element.focus(); // which scrolls to it
}

async function copyPython() {
  const text = graph.python();
  $("python").hidden = false;
  $("python").value = text;
  try {
    await navigator.clipboard.writeText(text);
    $("found").textContent = "copied";
  } catch { // no right to the clipboard, as in a frame: it stands in the panel
    $("found").textContent = "select and copy:";
  }
}

function reset() {
  graph.reset();
  refresh();
}

/** Shows the numbers that all leaves had at a step of the training; reset comes back to them. */
function scrubFilm() {
  const [step, numbers] = DATA.film[$("film").value];
  [...graph.initial.keys()].forEach((leaf, at) => graph.initial.set(leaf, Number(numbers[at])));
  $("film-step").textContent = `step ${step.toLocaleString("en")}`;
  $("film").setAttribute("aria-valuetext", `step ${step}`);
  reset();
}

const BUTTONS = {
  first: () => go(0), back: () => go(state.time - 1), play, next: () => go(state.time + 1), end: () => go(2 * last),
  in: () => zoom(1.25 * scale), out: () => zoom(0.8 * scale), fit, reset, copy: copyPython, quiz, hint, module: nextModule,
};
const KEYS = { Home: "first", ArrowLeft: "back", " ": "play", ArrowRight: "next", End: "end", "+": "in", "-": "out", 0: "fit", r: "reset", m: "module" };

function connect() {
  for (const [id, run] of Object.entries(BUTTONS)) $(id).addEventListener("click", run);
  $("time").max = 2 * last;
  $("time").addEventListener("input", () => go(Number($("time").value)));
  $("number").addEventListener("focus", () => {
    earlier = graph.value[state.selected];
    $("number").select();
  });
  $("number").addEventListener("input", typed);
  $("number").addEventListener("keydown", fieldKey);
  $("slider").addEventListener("input", () => change(state.selected, Number($("slider").value)));
  $("film").addEventListener("input", scrubFilm);
  $("search").addEventListener("change", search); // Enter, or leaving the field
  $("quiz-form").addEventListener("submit", answer);
  document.addEventListener("keydown", (event) => {
    const here = event.target;
    if (here.matches("input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (["Enter", " "].includes(event.key) && here.getAttribute("role") === "button") {
      event.preventDefault();
      here.dispatchEvent(new MouseEvent("click", { bubbles: true }));
    } else if (event.key.startsWith("Arrow") && here.closest("#picture")) {
      event.preventDefault();
      neighbour(here, event.key).focus();
    } else if (event.key === "/") {
      event.preventDefault();
      $("search").focus();
    } else if (KEYS[event.key] && !(event.key === " " && here.matches("button"))) {
      event.preventDefault();
      BUTTONS[KEYS[event.key]]();
    }
  });
  drag($("canvas"), (down) => {
    const frame = $("graph"), from = { x: frame.scrollLeft + down.clientX, y: frame.scrollTop + down.clientY };
    return (event) => frame.scrollTo(from.x - event.clientX, from.y - event.clientY);
  });
  window.addEventListener("resize", fit);
}

openSome();
$("module").hidden = DATA.scopes.length === 0;
connect();
state.time = DATA.mode === "steps" ? last : 2 * last;
draw();
if (DATA.film.length) {
  $("film-part").hidden = false;
  $("film").max = DATA.film.length - 1;
  $("film").value = DATA.film.length - 1;
  scrubFilm();
}
fit();
globalThis.live = { graph, change, go, select }; // for the console
