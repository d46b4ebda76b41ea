// Shows openapi.json: the operations by subject, each with its parameters, bodies and answers.

import { announce, el, fill } from "./dom.js";

const main = document.getElementById("main");

/** Return what a reference such as {"$ref": "#/components/schemas/Model"} stands for. */
function resolve(description, value) {
  if (!value?.$ref) return value ?? {};
  return value.$ref.slice(2).split("/").reduce((node, key) => node[key], description);
}

/** Return a schema as an example in words: {"name": string, "top": [...]}. */
function example(description, schema, indent = "") {
  const { type, properties, items, enum: values } = resolve(description, schema);
  if (values) return values.map((value) => JSON.stringify(value)).join(" | ");
  if (properties) {
    const inner = `${indent}  `;
    const lines = Object.entries(properties).map(
      ([name, value]) => `${inner}${JSON.stringify(name)}: ${example(description, value, inner)}`);
    return lines.length ? `{\n${lines.join(",\n")}\n${indent}}` : "{}";
  }
  if (items) return `[${example(description, items, indent)}]`;
  return [type ?? "any"].flat().join(" | ");
}

function parameterRow(parameter) {
  const { default: usual, enum: values, type } = parameter.schema;
  const kind = values ? values.join(", ") : type;
  return el("tr", {},
    el("td", {}, el("code", {}, parameter.name)),
    el("td", {}, parameter.required ? `${parameter.in}, needed` : parameter.in),
    el("td", {}, usual === undefined ? kind : `${kind}, ${usual} by default`),
    el("td", {}, parameter.description ?? ""));
}

function parameterTable(description, parameters) {
  if (!parameters.length) return null;
  const rows = parameters.map((parameter) => parameterRow(resolve(description, parameter)));
  const heads = ["Parameter", "Where", "Value", "Meaning"].map((text) => el("th", { scope: "col" }, text));
  return el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

/** Show the media types of a body or an answer, with an example for JSON. */
function contents(description, title, part) {
  const { description: text, content = {} } = resolve(description, part);
  const shown = Object.entries(content).map(([kind, { schema }]) => [
    el("p", {}, el("code", {}, kind)),
    kind.includes("json") && schema ? el("pre", { tabIndex: 0 }, example(description, schema)) : null,
  ]);
  return el("div", {}, el("h3", {}, title), text ? el("p", {}, text) : null, ...shown);
}

function answers(description, responses) {
  return Object.entries(responses).map(([status, response]) =>
    response.$ref ? null : contents(description, `Answer ${status}`, response));
}

function refusals(responses) {
  const codes = Object.keys(responses).filter((status) => responses[status].$ref);
  return codes.length ? el("p", { className: "soft" }, `Refused with ${codes.join(", ")}: {"error": "…"}`) : null;
}

function operation(description, path, method, spec) {
  return el("details", {},
    el("summary", {}, el("span", { className: "method" }, method), el("code", {}, path), spec.summary),
    parameterTable(description, spec.parameters ?? []),
    spec.requestBody ? contents(description, "Body", spec.requestBody) : null,
    ...answers(description, spec.responses),
    refusals(spec.responses));
}

/** Show every operation below the heading of its subject. */
function show(description) {
  const subjects = new Map();
  for (const [path, methods] of Object.entries(description.paths)) {
    for (const [method, spec] of Object.entries(methods)) {
      const subject = spec.tags[0];
      if (!subjects.has(subject)) subjects.set(subject, []);
      subjects.get(subject).push(operation(description, path, method, spec));
    }
  }
  const sections = [...subjects].map(([subject, operations]) =>
    el("section", {}, el("h2", {}, subject), operations));
  fill(main, el("p", {}, `${description.info.description} Version ${description.info.version}.`), sections);
}

try {
  const answer = await fetch("openapi.json");
  show(await answer.json());
} catch (error) {
  announce(error.message);
}
