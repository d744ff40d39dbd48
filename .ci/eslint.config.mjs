// The script of a live page, as one module. NODE_PATH: where eslint, @eslint/js and globals are installed.
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_PATH}/`);
const js = require("@eslint/js");
const globals = require("globals");

export default [
  js.configs.recommended,
  {
    languageOptions: { globals: globals.browser, sourceType: "module" },
    rules: { eqeqeq: "error", "no-var": "error", "prefer-const": "error", "no-unused-vars": ["error", { args: "none" }] },
  },
];
