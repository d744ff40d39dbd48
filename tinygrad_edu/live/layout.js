// A layered layout: operands to the left of what is computed from them, in the order in which they are written.
// Sugiyama, Tagawa and Toda, Methods for Visual Understanding of Hierarchical System Structures, 1981.

const GAP = { x: 60, y: 14 }; // between boxes
const BEND = 6; // the height kept free for an edge that passes a column

/** Places items {w, h} with links [from, to], in topological order; sets x and y, the middle of each.
 *  Returns {width, height, routes}: routes.get("from to") are the points where a long edge passes a column. */
function layered(items, links) {
  const columns = columnsOf(items, links), routes = new Map();
  const nodes = items.map((item, i) => ({ item, h: item.h, column: columns[i], order: item.order ?? i, before: [], after: [] }));
  const layers = [];
  for (const node of nodes) (layers[node.column] ??= []).push(node);
  for (const [from, to] of links) {
    if (columns[from] >= columns[to]) continue; // an edge back, between groups that read each other
    let last = nodes[from];
    const route = [];
    for (let column = columns[from] + 1; column < columns[to]; column++) {
      const bend = { h: BEND, column, order: nodes[from].order, before: [], after: [] };
      layers[column].push(bend);
      route.push(bend);
      join(last, bend);
      last = bend;
    }
    join(last, nodes[to]);
    if (route.length) routes.set(`${from} ${to}`, route);
  }
  for (const layer of layers) layer.sort((a, b) => a.order - b.order);
  if (links.length < 3000) untangle(layers);
  const height = rows(layers);
  let x = 0;
  for (const layer of layers) {
    const width = Math.max(0, ...layer.map((node) => node.item?.w ?? 0));
    for (const node of layer) {
      node.x = x + width / 2;
      if (node.item) [node.item.x, node.item.y] = [node.x, node.y];
    }
    x += width + GAP.x;
  }
  return { width: Math.max(0, x - GAP.x), height, routes };
}

function join(a, b) {
  a.after.push(b);
  b.before.push(a);
}

/** The column of each item: as far to the right as those that read it allow, so that edges are short. */
function columnsOf(items, links) {
  const depth = items.map(() => 0);
  const forward = links.filter(([from, to]) => from < to);
  const into = items.map(() => []), out = items.map(() => []);
  for (const [from, to] of forward) {
    into[to].push(from);
    out[from].push(to);
  }
  items.forEach((_, i) => { for (const p of into[i]) depth[i] = Math.max(depth[i], depth[p] + 1); });
  for (let i = items.length - 1; i >= 0; i--) if (out[i].length) depth[i] = Math.min(...out[i].map((to) => depth[to])) - 1;
  return depth;
}

/** Sorts each column by the middle of its neighbours, there and back, as long as fewer edges cross. */
function untangle(layers) {
  const places = () => layers.forEach((layer) => layer.forEach((node, place) => { node.place = place; }));
  places();
  let best = layers.map((layer) => [...layer]), fewest = crossings(layers);
  for (let round = 0; round < 6 && fewest; round++) {
    const side = round % 2 ? "after" : "before";
    for (const layer of round % 2 ? [...layers].reverse() : layers) {
      for (const node of layer) node.wish = node[side].length ? mean(node[side].map((other) => other.place)) : node.place;
      layer.sort((a, b) => a.wish - b.wish || a.place - b.place);
      layer.forEach((node, place) => { node.place = place; });
    }
    const count = crossings(layers);
    if (count < fewest) [best, fewest] = [layers.map((layer) => [...layer]), count];
  }
  best.forEach((layer, i) => { layers[i] = layer; });
  places();
}

function crossings(layers) {
  let count = 0;
  for (const layer of layers) {
    const ends = layer.flatMap((node) => node.after.map((other) => other.place).sort((a, b) => a - b));
    if (ends.length > 400) return 0; // too many to count: the order stays as written
    for (let i = 0; i < ends.length; i++) for (let j = i + 1; j < ends.length; j++) count += ends[j] < ends[i];
  }
  return count;
}

/** The height of every node in its column: near the middle of its neighbours, without overlap. */
function rows(layers) {
  for (const layer of layers) {
    let y = 0;
    for (const node of layer) {
      node.y = y + node.h / 2;
      y += node.h + GAP.y;
    }
  }
  for (let round = 0; round < 12; round++) {
    for (const layer of round % 2 ? [...layers].reverse() : layers) {
      const wishes = layer.map((node) => {
        const near = [...node.before, ...node.after];
        return near.length ? mean(near.map((other) => other.y)) : node.y;
      });
      spread(layer, wishes);
    }
  }
  const all = layers.flat();
  const top = Math.min(...all.map((node) => node.y - node.h / 2));
  for (const node of all) node.y -= top;
  return Math.max(0, ...all.map((node) => node.y + node.h / 2));
}

/** The heights nearest to the wishes that keep order and distance: pool adjacent violators, then put them back. */
function spread(layer, wishes) {
  let offset = 0;
  const blocks = [];
  const offsets = layer.map((node, i) => {
    if (i) offset += (layer[i - 1].h + node.h) / 2 + GAP.y;
    return offset;
  });
  layer.forEach((node, i) => {
    blocks.push({ sum: wishes[i] - offsets[i], n: 1 });
    while (blocks.length > 1 && blocks.at(-2).sum / blocks.at(-2).n > blocks.at(-1).sum / blocks.at(-1).n) {
      const { sum, n } = blocks.pop();
      blocks.at(-1).sum += sum;
      blocks.at(-1).n += n;
    }
  });
  let i = 0;
  for (const { sum, n } of blocks) for (let k = 0; k < n; k++, i++) layer[i].y = sum / n + offsets[i];
}

function mean(numbers) { return numbers.reduce((sum, x) => sum + x, 0) / numbers.length; }
