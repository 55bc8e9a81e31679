// The layers: a section for each, with its maps, its filters and the outlines of windows and receptive fields.

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function placeName(layers, place) {
  const layer = layers[place.layer];
  if (layer.kind === "dense") return `${layer.name}, unit ${place.row * layer.columns + place.column}`;
  const map = layer.maps > 1 ? `, map ${place.map}` : "";
  return `${layer.name}${map}, row ${place.row}, column ${place.column}`;
}

function valueAt(layers, outputs, place) {
  const layer = layers[place.layer];
  return outputs[place.layer][(place.row * layer.columns + place.column) * layer.maps + place.map];
}

/** One map: a canvas of one pixel per value, outlines above it, and the keyboard. `events` has hover, leave, choose. */
class MapView {
  constructor(layers, layer, map, events) {
    Object.assign(this, { layers, layer, map, events });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.outlines = ["field", "best", "cell"].map((kind) => h("div", { class: `outline ${kind}`, hidden: true }));
    this.element = h(
      "div",
      {
        class: "map", tabindex: map === 0 ? "0" : "-1", role: "application", "aria-roledescription": "map",
        "aria-label": `${this.title()}, ${by(layer.rows, layer.columns)}. Arrow keys move over its values.`,
        style: `aspect-ratio: ${layer.columns} / ${layer.rows}`, "data-layer": layer.name, "data-map": map,
        onpointermove: (event) => event.pointerType !== "touch" && this.at(event, events.hover),
        onpointerleave: () => events.leave(),
        onclick: (event) => this.at(event, events.choose),
        onkeydown: (event) => this.key(event),
        onfocus: () => this.element.matches(":focus-visible") && events.focus(layer.index, map),
      },
      this.canvas,
      this.outlines,
    );
  }

  title() {
    const { layer, map } = this;
    return layer.kind === "dense" ? `${layer.name}, its units` : layer.maps > 1 ? `${layer.name}, map ${map}` : layer.name;
  }

  at(event, act) {
    const area = this.element.getBoundingClientRect();
    const { rows, columns, units } = this.layer;
    const row = Math.floor(((event.clientY - area.top) / area.height) * rows);
    const column = Math.floor(((event.clientX - area.left) / area.width) * columns);
    if (row < 0 || column < 0 || row >= rows || column >= columns || row * columns + column >= units) return;
    act({ layer: this.layer.index, row, column, map: this.map });
  }

  key(event) {
    const { rows, columns, maps, units } = this.layer;
    const place = this.events.placeIn(this.layer.index, this.map);
    if (event.key in MOVES) {
      place.row += MOVES[event.key][0];
      place.column += MOVES[event.key][1];
    } else if (event.key === "Home") place.column = 0;
    else if (event.key === "End") place.column = columns - 1;
    else if (event.key === "PageUp" && maps > 1) place.map -= 1;
    else if (event.key === "PageDown" && maps > 1) place.map += 1;
    else return;
    event.preventDefault();
    const inside = place.row >= 0 && place.column >= 0 && place.row < rows && place.column < columns;
    if (!inside || place.map < 0 || place.map >= maps || place.row * columns + place.column >= units) return;
    this.events.choose(place, true);
  }

  paint(values, scale) {
    const { rows, columns, maps, units, index } = this.layer;
    const end = units === undefined ? values.length : units;
    const at = (row, column) => {
      const place = (row * columns + column) * maps + this.map;
      return place < end ? values[place] : undefined;
    };
    paint(this.canvas, rows, columns, at, index === 0 ? inkOf : (value) => colourOf(value, scale));
  }

  outline(kind, box) {
    const outline = this.outlines[["field", "best", "cell"].indexOf(kind)];
    outline.hidden = box === null;
    if (box === null) return;
    const { rows, columns } = this.layer;
    const share = (part, whole) => `${(100 * part) / whole}%`;
    outline.style.left = share(box.column, columns);
    outline.style.top = share(box.row, rows);
    outline.style.width = share(box.columns, columns);
    outline.style.height = share(box.rows, rows);
  }
}

function formula(before, layer, side) {
  const stride = layer.kind === "pool" ? layer.size : 1;
  return `⌊(${before[side]} − ${layer.size}) / ${stride}⌋ + 1 = ${layer[side]}`.replaceAll(" ", "\u00a0"); // on one line
}

function about(before, layer) {
  if (layer.kind === "conv") {
    const filter = before.maps > 1 ? by(layer.size, layer.size, before.maps) : by(layer.size, layer.size);
    return `${layer.maps} filters of ${filter}, and a bias for each, give ${layer.maps} maps of ` +
      `${by(layer.rows, layer.columns)}: ${formula(before, layer, "rows")}.`;
  }
  if (layer.kind === "pool") {
    const odd = before.rows % layer.size ? " The last row and column are left over." : "";
    return `The largest value of each ${by(layer.size, layer.size)} window: ${formula(before, layer, "rows")}.${odd}`;
  }
  const inputs = layer.shape[0];
  return `${layer.units} units. Each multiplies all ${inputs} values by its own weights, and adds a bias` +
    `${layer.relu ? "; ReLU then makes negative sums 0" : "; there is one unit for each digit"}.`;
}

/** The filter of a map: a square, or a square for each channel, beside each other. */
function filterPicture(layer, before, map, scale) {
  const { size, maps, kernel } = layer;
  const channels = before.maps;
  const canvas = h("canvas", {
    class: "filter", role: "img", "aria-label": `Filter of ${layer.name}, map ${map}`,
    style: `aspect-ratio: ${channels * (size + 1) - 1} / ${size}`,
  });
  const repaint = () => paint(canvas, size, channels * (size + 1) - 1, (row, column) => {
    const channel = Math.floor(column / (size + 1));
    const across = column % (size + 1);
    return across === size ? undefined : kernel[((row * size + across) * channels + channel) * maps + map];
  }, (value) => colourOf(value, scale));
  return { canvas, repaint };
}

class LayerView {
  constructor(layers, layer, events) {
    const before = layers[layer.index - 1];
    const count = layer.kind === "dense" ? 1 : layer.maps;
    this.layer = layer;
    this.maps = Array.from({ length: count }, (_, map) => new MapView(layers, layer, map, events));
    const scale = layer.kind === "conv" ? largestMagnitude(layer.kernel) : 0;
    this.filters = layer.kind === "conv" ? this.maps.map((_, map) => filterPicture(layer, before, map, scale)) : [];
    this.scale = h("span", { class: "scale" });
    const figures = this.maps.map((view, map) => h(
      "figure", {}, this.filters.length ? this.filters[map].canvas : null, view.element,
      count > 1 ? h("figcaption", {}, `${map}`) : null,
    ));
    const digits = layer.index === layers.length - 1
      ? h("div", { class: "digits", "aria-hidden": "true" }, Array.from({ length: layer.units }, (_, i) => h("span", {}, `${i}`)))
      : null;
    this.element = h(
      "section", { class: `layer ${layer.kind} ${layer.name}`, "aria-labelledby": `heading-${layer.name}` },
      h("div", { class: "heading" }, h("h2", { id: `heading-${layer.name}` }, layer.name), this.scale),
      h("p", {}, about(before, layer)),
      h("div", { class: "maps" }, figures),
      digits,
    );
  }

  paint(values) {
    const scale = largestMagnitude(values);
    this.scale.replaceChildren(`−${num(scale, 1)}`, h("span", { class: "bar" }), num(scale, 1));
    for (const view of this.maps) view.paint(values, scale);
  }

  paintFilters() {
    for (const filter of this.filters) filter.repaint();
  }

  /** Only one map of a layer is a stop of the Tab key. */
  stopAt(map) {
    this.maps.forEach((view, i) => view.element.setAttribute("tabindex", i === map ? "0" : "-1"));
  }
}

/** Outline a value, the window below it, pooling's choice, and its receptive field in all layers before. */
function outlinePlace(layers, views, outputs, place) {
  for (const view of views) {
    for (const map of view.maps) for (const kind of ["field", "best", "cell"]) map.outline(kind, null);
  }
  if (place.softmax !== undefined) return;
  const boxes = receptiveFields(layers, place);
  views[place.layer].maps[place.map].outline("cell", boxes[place.layer]);
  let map = place.map; // null: all of them
  for (let index = place.layer; index > 0; index--) {
    const layer = layers[index];
    if (layer.kind !== "pool") map = null;
    views[index - 1].maps.forEach((view, i) => (map === null || map === i) && view.outline("field", boxes[index - 1]));
  }
  if (layers[place.layer].kind === "pool") {
    const before = layers[place.layer - 1];
    const best = chosenByPool(layers[place.layer], before, outputs[place.layer - 1], place.row, place.column, place.map);
    views[place.layer - 1].maps[place.map].outline("best", { ...best, rows: 1, columns: 1 });
  }
}
