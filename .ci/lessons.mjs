// Every lesson of the built site in its Pyodide, under Node, statement by statement: node .ci/lessons.mjs [lesson ...]
// Each has a process of its own. What goes wrong is printed, and the exit status is 1.
import { execFile } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const lite = join(here, "../notebooks/site/lite");
const pyodide = join(lite, "static/pyodide");

async function run(name) {
  const { loadPyodide } = await import(pathToFileURL(join(pyodide, "pyodide.mjs")));
  const { packages } = JSON.parse(readFileSync(join(pyodide, "pyodide-lock.json"), "utf-8"));
  const wanted = ["numpy", "matplotlib"];
  const missing = wanted.filter((one) => !(one in packages));
  const env = { TINYGRAD_EDU_QUICK: "1", MPLBACKEND: "agg", HOME: "/home/pyodide" };
  const loaded = ["ipython", "tinygrad-edu", ...wanted.filter((one) => one in packages)];
  const python = await loadPyodide({ env, packages: loaded });
  python.globals.set("text", readFileSync(join(lite, "files", name), "utf-8"));
  python.globals.set("missing", python.toPy(missing));
  python.runPython(readFileSync(join(here, "lessons.py"), "utf-8"));
  return python.runPython("run_lesson(text, missing)");
}

function runsAlone(name) {
  return new Promise((resolve) => {
    const start = performance.now();
    const command = [fileURLToPath(import.meta.url), "--one", name];
    execFile(process.execPath, command, { maxBuffer: Infinity }, (error, stdout, stderr) => {
      const seconds = ((performance.now() - start) / 1000).toFixed(0);
      const said = error ? `${stdout}\n${stderr}` : stdout.trim().split("\n").at(-1);
      console.log(`${name.slice(0, 2)}, ${seconds} s: ${said}`);
      resolve(!error);
    });
  });
}

const [first, second] = process.argv.slice(2);
if (first === "--one") {
  const fault = await run(second);
  if (fault) console.error(fault);
  process.exit(fault ? 1 : 0);
}
const numbers = process.argv.slice(2);
const names = readdirSync(join(lite, "files")).filter((name) => /^\d\d_.*ipynb$/.test(name));
const waiting = names.filter((name) => numbers.length === 0 || numbers.includes(name.slice(0, 2)));
if (waiting.length === 0) throw new Error(`No lesson of the site begins with one of ${numbers}`);
let right = true;
async function work() {
  while (waiting.length) if (!(await runsAlone(waiting.shift()))) right = false;
}
await Promise.all([work(), work()]); // two at a time
process.exit(right ? 0 : 1);
