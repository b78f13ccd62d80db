"use strict";
// What all parts of the page use. Text of data only ever becomes text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 8;
const DASHES = ["", "7 4", "2 4", "10 4 2 4"];

/** The JSON of a script element. */
function embedded(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

function byId(id) {
  return document.getElementById(id);
}

/** An element with attributes and children; texts among the children stay texts. */
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for a part of a drawing. */
function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function colour(number) {
  return `var(--c${number % COLOURS})`;
}

/** Beyond the eighth line, colours come again with another dash. */
function dash(number) {
  return DASHES[Math.floor(number / COLOURS) % DASHES.length] || null;
}

function percent(fraction) {
  return fraction === null || fraction === undefined ? "–" : `${(100 * fraction).toFixed(1)} %`;
}

function isNumber(value) {
  return typeof value === "number";
}

/** A number of any size, short. */
function plain(value) {
  if (value === null || value === undefined) return "–";
  if (!isNumber(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : String(+value.toPrecision(4));
}

/** A short line in a colour, for a legend. */
function swatch(number) {
  const line = draw("line", { x1: 1, y1: 5, x2: 23, y2: 5, "stroke-width": 3, "stroke-dasharray": dash(number) });
  line.style.stroke = colour(number);
  return draw("svg", { width: 24, height: 10, "aria-hidden": "true" }, line);
}

/** Round values from low to high, at most about `most` of them. */
function ticks(low, high, most) {
  if (!(high > low)) return [low];
  const raw = (high - low) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let at = Math.ceil(low / size) * size; at <= high + size * 1e-9; at += size) found.push(+at.toPrecision(10));
  return found;
}

/** Draw now, and again whenever the place has another width. Replaces what was drawn there before. */
const observers = new Map();
function drawn(host, paint) {
  observers.get(host)?.disconnect();
  let width = 0;
  const again = () => {
    const now = Math.floor(host.clientWidth);
    if (now === width || now === 0) return;
    width = now;
    paint(now);
  };
  const observer = new ResizeObserver(again);
  observer.observe(host);
  observers.set(host, observer);
  again();
}

/** Words in the place of a drawing. */
function nothing(host, words) {
  observers.get(host)?.disconnect();
  host.replaceChildren(make("p", { class: "nothing" }, words));
}
