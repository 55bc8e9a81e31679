// The page: digits and pad, probabilities, layers, and the panel of details.

const data = JSON.parse(document.getElementById("data").textContent);
const layers = readLayers(data.layers);
const digitBytes = bytesOf(data.images);
const element = (id) => document.getElementById(id);

const state = {
  source: null, // the index of a digit, or "drawing"
  result: null,
  chosen: { layer: 1, row: 12, column: 12, map: 0 }, // by click, tap or keyboard
  hovered: null,
  redrawn: 0, // milliseconds of the last redraw
};

function digitPixels(index) {
  return Float32Array.from(digitBytes.subarray(index * 784, (index + 1) * 784), (byte) => byte / 255);
}

// ---- Digits

function paintDigit(canvas, index) {
  const pixels = digitPixels(index);
  paint(canvas, 28, 28, (row, column) => pixels[row * 28 + column], inkOf);
}

function makeDigits() {
  const grid = element("digits");
  data.labels.forEach((label, index) => {
    const canvas = h("canvas", { "aria-hidden": "true" });
    grid.append(h("button", {
      type: "button", class: "digit", "aria-pressed": "false", "aria-label": `Test digit ${index}: a ${label}`,
      tabindex: index ? "-1" : "0", onclick: () => pick(index), onkeydown: (event) => moveAmongDigits(event, index),
    }, canvas));
  });
}

function moveAmongDigits(event, index) {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 }[event.key];
  const next = event.key === "Home" ? 0 : event.key === "End" ? data.labels.length - 1 : index + by;
  if (!(next >= 0 && next < data.labels.length)) return;
  event.preventDefault();
  pick(next);
  element("digits").children[next].focus();
}

function pick(index) {
  const buttons = [...element("digits").children];
  buttons.forEach((button, i) => {
    button.setAttribute("aria-pressed", String(i === index));
    button.setAttribute("tabindex", i === index ? "0" : "-1");
  });
  state.source = index;
  show(digitPixels(index));
  announceGuess();
}

/** Mark the digits that the network gets wrong, after the first view. */
function markMistakes(from = 0) {
  const until = Math.min(from + 10, data.labels.length);
  for (let index = from; index < until; index++) {
    const guess = largestOf(forward(layers, digitPixels(index)).probabilities);
    if (guess === data.labels[index]) continue;
    const button = element("digits").children[index];
    button.classList.add("wrong");
    button.setAttribute("aria-label", `Test digit ${index}: a ${data.labels[index]}, taken for a ${guess}`);
  }
  if (until < data.labels.length) {
    setTimeout(markMistakes, 0, until);
    return;
  }
  const wrong = document.querySelectorAll(".digit.wrong").length;
  element("mistakes").textContent = wrong
    ? `The network gets ${wrong} of these ${data.labels.length} wrong: see the marked corner${wrong > 1 ? "s" : ""}.`
    : `The network gets all ${data.labels.length} right.`;
}

// ---- Probabilities

function makeBars() {
  element("bars").append(...Array.from({ length: 10 }, (_, digit) => h("li", {}, h(
    "button", { type: "button", onclick: () => choose({ softmax: digit }) },
    h("b", {}, `${digit}`), h("span", { class: "track" }, h("span", { class: "fill" })), h("span", { class: "share" }),
  ))));
}

function paintBars(probabilities) {
  const guess = largestOf(probabilities);
  [...element("bars").children].forEach((item, digit) => {
    const share = probabilities[digit];
    item.classList.toggle("guess", digit === guess);
    item.querySelector(".fill").style.width = `${100 * share}%`;
    item.querySelector(".share").textContent = percent(share);
    item.querySelector("button").setAttribute("aria-label", `${digit}: ${percent(share)}`);
  });
}

function guessText() {
  if (state.source === "drawing" && !state.pixels.some((value) => value > 0)) return "Nothing is drawn yet.";
  const { probabilities } = state.result;
  const guess = largestOf(probabilities);
  const share = percent(probabilities[guess]).replace(/^>\s/, "more than ");
  const said = `The network says ${guess}, with ${share}.`;
  if (state.source === "drawing") return said;
  const label = data.labels[state.source];
  return guess === label ? `${said} Right.` : `${said} Wrong: it is a ${label}.`;
}

// ---- Layers and details

const events = {
  hover(place) {
    if (samePlace(place, state.hovered)) return;
    state.hovered = place;
    showDetail();
  },
  leave() {
    if (state.hovered === null) return;
    state.hovered = null;
    showDetail();
  },
  choose,
  /** The place where the keyboard is in a map. */
  placeIn(layer, map) {
    const { chosen } = state;
    if (chosen.layer === layer) return { ...chosen, map };
    return { layer, map, row: Math.floor((layers[layer].rows - 1) / 2), column: Math.floor((layers[layer].columns - 1) / 2) };
  },
  focus(layer, map) {
    if (state.chosen.layer !== layer || state.chosen.map !== map) choose(events.placeIn(layer, map), true);
  },
};

function samePlace(a, b) {
  return a !== null && b !== null && a.layer === b.layer && a.map === b.map && a.row === b.row && a.column === b.column &&
    a.softmax === b.softmax;
}

function choose(place, byKeyboard = false) {
  state.chosen = place;
  state.hovered = null;
  element("detail").classList.add("wanted");
  if (place.softmax === undefined) {
    const view = views[place.layer];
    view.stopAt(place.map);
    if (byKeyboard) {
      const map = view.maps[place.map].element;
      if (document.activeElement !== map) map.focus({ focusVisible: true });
      element("spoken").textContent = `${placeName(layers, place)}: ${num(valueAt(layers, state.result.outputs, place), 3)}`;
    }
  }
  showDetail();
}

function showDetail() {
  const place = state.hovered || state.chosen;
  outlinePlace(layers, views, state.result.outputs, place);
  const { title, content } = detailOf(layers, state.result, place);
  element("detail-title").textContent = title;
  element("detail-content").replaceChildren(...content.flat(Infinity));
}

class InputView {
  constructor() {
    this.maps = [new MapView(layers, layers[0], 0, events)];
    element("seen").append(this.maps[0].element);
  }

  paint(values) {
    this.maps[0].paint(values);
  }

  stopAt() {}

  paintFilters() {}
}

function makeViews() {
  const made = layers.slice(1).map((layer) => new LayerView(layers, layer, events));
  element("layers").append(...made.map((view) => view.element));
  return [new InputView(), ...made];
}

// ---- The whole

function repaint() {
  views.forEach((view, i) => view.paint(state.result.outputs[i]));
  paintBars(state.result.probabilities);
  element("guess").textContent = guessText();
  showDetail();
}

function show(pixels) {
  const began = performance.now();
  state.pixels = pixels;
  state.result = forward(layers, pixels);
  repaint();
  state.redrawn = performance.now() - began;
}

function announceGuess() {
  element("spoken").textContent = guessText();
}

function openTab(name, focus = false) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const open = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(open));
    tab.setAttribute("tabindex", open ? "0" : "-1");
    element(tab.getAttribute("aria-controls")).hidden = !open;
    if (open && focus) tab.focus();
  }
  if (name === "draw" && pad.strokes.length) drawn(pad.pixels());
}

function drawn(pixels) {
  state.source = "drawing";
  for (const button of document.querySelectorAll(".digit[aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
  element("pad-hint").hidden = pad.strokes.length > 0;
  show(pixels);
}

function connect() {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const other = tab.id === "tab-draw" ? "pick" : "draw";
    tab.addEventListener("click", () => openTab(tab.id.slice("tab-".length)));
    tab.addEventListener("keydown", (event) => event.key.match(/^Arrow(Left|Right)$/) && openTab(other, true));
  }
  element("undo").addEventListener("click", () => { pad.undo(); pad.finish(); });
  element("clear").addEventListener("click", () => { pad.clear(); pad.finish(); });
  element("close").addEventListener("click", () => element("detail").classList.remove("wanted"));
  darkMode.addEventListener("change", () => {
    chooseColours();
    paintWhatStays();
    pad.repaint();
    repaint();
  });
}

/** Digits and filters, which only change with the colours. */
function paintWhatStays() {
  [...element("digits").children].forEach((button, index) => paintDigit(button.firstChild, index));
  views.forEach((view) => view.paintFilters());
}

chooseColours();
makeDigits();
makeBars();
const views = makeViews();
const pad = new Pad(element("pad"), drawn, announceGuess);
connect();
element("facts").textContent = data.facts;
paintWhatStays();
pick(0);
element("spoken").textContent = "";
window.explore = { data, layers, state, choose, pick, forward: (pixels) => forward(layers, pixels), digitPixels, normalise };
requestAnimationFrame(() => setTimeout(markMistakes, 0));
