// A layered layout: operands to the left of what is computed from them, in the order in which they are written.
// Sugiyama, Tagawa and Toda, Methods for Visual Understanding of Hierarchical System Structures, 1981.

const GAP = { x: 60, y: 14 }; // between boxes
const BEND = 6; // the height kept free for an edge that passes a column

/** Places boxes {w, h, place, inputs}, each after those in its set of inputs: x and y are the middle of each, and its routes.get(input)
 *  the places where the edge from that input passes a column. Returns {width, height}. */
function layered(boxes) {
  const layers = [];
  const put = (node) => { (layers[node.column] ??= []).push(node); };
  columns(boxes);
  for (const box of boxes) Object.assign(box, { before: [], after: [], routes: new Map() });
  for (const box of boxes) {
    put(box);
    for (const input of box.inputs) {
      const route = [];
      for (let column = input.column + 1; column < box.column; column++) route.push({ w: 0, h: BEND, column, place: input.place, before: [], after: [] });
      route.forEach(put);
      box.routes.set(input, route);
      [...route, box].reduce(joined, input);
    }
  }
  for (const layer of layers) layer.sort((a, b) => b.place - a.place);
  const height = rows(layers);
  let x = 0;
  for (const layer of layers) {
    const width = Math.max(...layer.map((node) => node.w));
    for (const node of layer) node.x = x + width / 2;
    x += width + GAP.x;
  }
  return { width: x - GAP.x, height };
}

function joined(a, b) {
  a.after.push(b);
  b.before.push(a);
  return b;
}

/** The column of each box: as far to the right as those that read it allow, so that edges are short. */
function columns(boxes) {
  const limit = new Map();
  for (const box of boxes) box.column = Math.max(0, ...[...box.inputs].map((input) => input.column + 1));
  for (const box of [...boxes].reverse()) {
    box.column = limit.get(box) ?? box.column;
    for (const input of box.inputs) limit.set(input, Math.min(limit.get(input) ?? Infinity, box.column - 1));
  }
}

/** The order of every column and the height of every node: near the middle of its neighbours, without overlap. */
function rows(layers) {
  for (const layer of layers) spread(layer, layer.map(() => 0));
  for (let round = 0; round < 12; round++) {
    for (const layer of round % 2 ? layers.toReversed() : layers) {
      const side = round >= 6 ? (node) => [...node.before, ...node.after] : (node) => node[round % 2 ? "after" : "before"];
      const wishes = new Map(layer.map((node) => [node, mean(side(node).map((other) => other.y)) ?? node.y]));
      if (round < 6) layer.sort((a, b) => wishes.get(a) - wishes.get(b));
      spread(layer, layer.map((node) => wishes.get(node)));
    }
  }
  const all = layers.flat(), top = Math.min(...all.map((node) => node.y - node.h / 2));
  for (const node of all) node.y -= top;
  return Math.max(0, ...all.map((node) => node.y + node.h / 2));
}

/** Heights near the wishes that keep order and distance: midway between pushing all down from the first and up from the last. */
function spread(layer, wishes) {
  const down = [...wishes], up = [...wishes];
  const apart = layer.map((node, i) => (i ? (layer[i - 1].h + node.h) / 2 + GAP.y : 0));
  for (let i = 1; i < layer.length; i++) down[i] = Math.max(down[i], down[i - 1] + apart[i]);
  for (let i = layer.length - 1; i > 0; i--) up[i - 1] = Math.min(up[i - 1], up[i] - apart[i]);
  layer.forEach((node, i) => { node.y = (down[i] + up[i]) / 2; });
}

function mean(numbers) { return numbers.length ? numbers.reduce((sum, x) => sum + x, 0) / numbers.length : undefined; }
