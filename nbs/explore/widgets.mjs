// Controls of the page: elements, a number with a slider that refuses in words, tabs, what is saved.

import { InputError } from "./dspmde.mjs";
import { readNumber } from "./water.mjs";

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A number typed or slid. `problems` holds one sentence a control while what stands in it cannot be used. options: min, max,
// step of the slider, log: the slider walks decades.
export function numberRow({ key, label, unit, value, min, max, step, log = false, spoken = unit, problems, onchange, extra = null }) {
  const toSlider = (x) => (log ? Math.log10(Math.max(x, min)) : x), fromSlider = (s) => (log ? Number((10 ** s).toPrecision(3)) : s);
  const short = (x) => String(Number(x.toPrecision(6)));
  const range = element("input", { type: "range", id: `slide-${key}`, min: toSlider(min), max: toSlider(max), step: log ? 0.01 : step, value: toSlider(value),
    "aria-label": `${label}, slider`, "aria-valuetext": `${short(value)} ${spoken}` });
  const number = element("input", { type: "text", inputmode: "decimal", autocomplete: "off", id: `number-${key}`, value: short(value), "aria-label": `${label} in ${spoken || "numbers"}` });
  const low = log ? 0 : min;
  function accept(x, from) {
    problems.delete(key);
    number.removeAttribute("aria-invalid");
    if (from !== number) number.value = short(x);
    if (from !== range) range.value = toSlider(x);
    range.setAttribute("aria-valuetext", `${short(x)} ${spoken}`);
    onchange(x);
  }
  function refuse(message) {
    problems.set(key, `${label} ${message}.`);
    number.setAttribute("aria-invalid", "true");
    onchange(null);
  }
  range.addEventListener("input", () => accept(fromSlider(Number(range.value)), range));
  number.addEventListener("input", () => {
    try {
      const x = readNumber(number.value);
      if (!(x >= low && x <= max)) throw new InputError(`is ${short(x)}, expected ${short(low)} to ${short(max)}${unit ? ` ${unit}` : ""}`);
      accept(x, number);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      refuse(error.message);
    }
  });
  const node = element("div", { class: "row", "data-name": key }, element("span", { class: "name" }, label), number,
    element("span", { class: "unit" }, unit), ...(extra ? [extra] : []), range);
  return { node, number, range, set: (x) => { problems.delete(key); number.removeAttribute("aria-invalid"); number.value = short(x); range.value = toSlider(x); range.setAttribute("aria-valuetext", `${short(x)} ${spoken}`); } };
}

export const choice = (attributes, options, chosen, onchange) => {
  const node = element("select", { ...attributes, onchange: () => onchange(node.value) },
    ...options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
  return node;
};

// Tabs by the keyboard too: arrows move, the chosen one is in the order of Tab.
export function tabs(names, chosen, onchange) {
  const buttons = Object.entries(names).map(([key, label]) => element("button", { type: "button", role: "tab", id: `tab-${key}`, "aria-controls": "ie-results",
    onclick: () => set(key, true), onkeydown: (e) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (!step) return;
      const keys = Object.keys(names), next = keys[(keys.indexOf(key) + step + keys.length) % keys.length];
      set(next, true);
      buttons[keys.indexOf(next)].focus();
    } }, label));
  function set(key, tell) {
    Object.keys(names).forEach((k, i) => { buttons[i].setAttribute("aria-selected", String(k === key)); });
    if (tell) onchange(key);
  }
  set(chosen, false);
  return { node: element("div", { class: "tabs", role: "tablist", "aria-label": "What answers" }, ...buttons), set };
}

export function save(content, name, type) {
  const link = element("a", { href: URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The drawing as a picture: styles of the page written into a copy, painted at three times its size.
export async function savePicture(svg, name) {
  const copy = svg.cloneNode(true), from = [svg, ...svg.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  const keep = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-family", "font-weight"];
  from.forEach((node, i) => { const s = getComputedStyle(node); for (const k of keep) to[i].style.setProperty(k, s.getPropertyValue(k)); });
  const [, , w, h] = svg.getAttribute("viewBox").split(" ").map(Number), scale = 3;
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", w); copy.setAttribute("height", h);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await image.decode();
  const canvas = element("canvas", { width: w * scale, height: h * scale }), pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(svg.closest(".ion-explore")).backgroundColor;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  save(blob, name);
  return blob.size;
}

// Work in slices, so that the page stays awake: `make` is a generator; a newer job ends an older one.
export function jobs() {
  let now = 0;
  return async function run(make, after, failed) {
    const mine = ++now;
    const steps = make();
    try {
      for (let until = performance.now() + 24; ;) {
        const { value, done } = steps.next();
        if (mine !== now) return;
        if (value !== undefined || done) after(value, done);
        if (done) return;
        if (performance.now() > until) {
          await new Promise((go) => setTimeout(go));
          until = performance.now() + 24;
          if (mine !== now) return;
        }
      }
    } catch (error) {
      if (mine === now) failed(error);
    }
  };
}
