// Every lesson of the built site in its Pyodide, under Node, statement by statement: node .ci/lessons.mjs [lesson ...]
// Two processes share them; each loads Pyodide once, and every lesson has names of its own. What goes wrong is printed,
// and the exit status is 1.
import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const script = fileURLToPath(import.meta.url);
const here = dirname(script);
const lite = join(here, "../notebooks/site/lite");
const pyodide = join(lite, "static/pyodide");

async function run(names) {
  const { loadPyodide } = await import(pathToFileURL(join(pyodide, "pyodide.mjs")));
  const { packages } = JSON.parse(readFileSync(join(pyodide, "pyodide-lock.json"), "utf-8"));
  const wanted = ["numpy", "matplotlib"];
  const env = { TINYGRAD_EDU_QUICK: "1", MPLBACKEND: "agg", HOME: "/home/pyodide" };
  const loaded = ["ipython", "tinygrad-edu", ...wanted.filter((one) => one in packages)];
  const python = await loadPyodide({ env, packages: loaded, stdout: () => {} });
  python.runPython(readFileSync(join(here, "lessons.py"), "utf-8"));
  const missing = python.toPy(wanted.filter((one) => !(one in packages)));
  let right = true;
  for (const name of names) {
    const start = performance.now();
    const text = readFileSync(join(lite, "files", name), "utf-8");
    const [runs, said] = python.globals.get("run_lesson")(text, missing).toJs();
    console.log(`${name.slice(0, 2)}, ${((performance.now() - start) / 1000).toFixed(0)} s: ${said}`);
    right &&= runs;
  }
  return right;
}

const [first, ...rest] = process.argv.slice(2);
if (first === "--these") process.exit((await run(rest)) ? 0 : 1);
const numbers = process.argv.slice(2);
const all = readdirSync(join(lite, "files")).filter((name) => /^\d\d_.*ipynb$/.test(name));
const names = all.filter((name) => numbers.length === 0 || numbers.includes(name.slice(0, 2)));
if (names.length === 0) throw new Error(`No lesson of the site begins with one of ${numbers}`);
const halves = [0, 1].map((half) => names.filter((_, place) => place % 2 === half)).filter((half) => half.length);
const workers = halves.map((half) => spawn(process.execPath, [script, "--these", ...half], { stdio: "inherit" }));
const ends = await Promise.all(workers.map((worker) => new Promise((resolve) => worker.on("close", resolve))));
process.exit(ends.every((status) => status === 0) ? 0 : 1);
