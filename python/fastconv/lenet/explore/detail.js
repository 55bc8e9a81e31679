// The panel that shows how a value was computed.

const MOST_TERMS = 6; // of a dense unit's products, the largest

function numbers(label, rows, scale, marked = () => false, decimals = 2) {
  const cell = (value, row, column) => shown("td", value, decimals, {
    style: `background: ${tint(value, scale)}`, class: marked(row, column) ? "chosen" : null,
  });
  return h("table", { class: "numbers", "aria-label": label }, h("tbody", {}, rows.map(
    (values, row) => h("tr", {}, values.map((value, column) => cell(value, row, column))),
  )));
}

function sumLine(parts) {
  return h("p", { class: "sum" }, parts);
}

function detailOfInput(layers, outputs, place) {
  const value = valueAt(layers, outputs, place);
  return [h("p", {}, `A pixel of the image. 0 is blank, 1 is full ink; here ${Math.round(value * 255)} of 255.`)];
}

function detailOfConvolution(layers, outputs, place) {
  const layer = layers[place.layer];
  const before = layers[place.layer - 1];
  const input = outputs[place.layer - 1];
  const { size, maps, kernel, bias } = layer;
  const inputScale = largestMagnitude(input);
  const weightScale = largestMagnitude(kernel);
  const square = (value) => Array.from({ length: size }, (_, r) => Array.from({ length: size }, (_, c) => value(r, c)));
  const blocks = [];
  let total = 0;
  for (let channel = 0; channel < before.maps; channel++) {
    const values = square((r, c) => input[((place.row + r) * before.columns + place.column + c) * before.maps + channel]);
    const weights = square((r, c) => kernel[((r * size + c) * before.maps + channel) * maps + place.map]);
    const products = square((r, c) => f32(values[r][c] * weights[r][c]));
    const sum = products.flat().reduce((a, b) => a + b, 0);
    total += sum;
    const name = before.maps > 1 ? `${before.name}, map ${channel}` : before.name;
    const scale = largestMagnitude(products.flat());
    blocks.push(h(
      "div", { class: "product" }, before.maps > 1 ? h("h4", {}, name) : null,
      numbers(`Window on ${name}`, values, inputScale), h("span", { class: "sign" }, "×"),
      numbers(`Filter for ${name}`, weights, weightScale), h("span", { class: "sign" }, "="),
      before.maps > 1 ? shown("span", sum, 2, { class: "partial" }) : numbers("Products", products, scale),
    ));
  }
  const count = size * size * before.maps;
  return [
    h("p", {}, `The window at rows ${place.row}–${place.row + size - 1}, columns ${place.column}–` +
      `${place.column + size - 1}${before.maps > 1 ? ` of all ${before.maps} maps` : ""}, times the filter of map ${place.map}:`),
    blocks,
    sumLine([
      `Sum of ${count} products `, shown("b", total, 3, { class: "total" }), " + bias ",
      shown("b", bias[place.map], 3, { class: "bias" }), " = ",
      shown("strong", valueAt(layers, outputs, place), 3, { class: "value" }),
    ]),
  ];
}

function detailOfPool(layers, outputs, place) {
  const layer = layers[place.layer];
  const before = layers[place.layer - 1];
  const input = outputs[place.layer - 1];
  const best = chosenByPool(layer, before, input, place.row, place.column, place.map);
  const [top, left] = [place.row * layer.size, place.column * layer.size];
  const rows = Array.from({ length: layer.size }, (_, r) => Array.from({ length: layer.size }, (_, c) =>
    input[((top + r) * before.columns + left + c) * before.maps + place.map]));
  return [
    h("p", {}, `The window of ${before.name}, map ${place.map}:`),
    h("div", { class: "pooled" }, numbers(`Window on ${before.name}, map ${place.map}`, rows, largestMagnitude(input),
      (r, c) => top + r === best.row && left + c === best.column)),
    sumLine([`The largest is `, shown("strong", best.value, 3, { class: "value" }), `, at row ${best.row}, column ${best.column}.`]),
    h("p", { class: "hint" }, "In training, the gradient goes back to this value alone."),
  ];
}

/** A picture of all products of a dense unit, in the shape of its inputs. */
function productsPicture(before, products, scale) {
  const canvas = h("canvas", { class: "products", "aria-hidden": "true" });
  if (before.kind === "dense") {
    paint(canvas, before.rows, before.columns, (r, c) => products[r * before.columns + c], (v) => colourOf(v, scale));
    canvas.style.aspectRatio = `${before.columns} / ${before.rows}`;
    return canvas;
  }
  const across = Math.min(8, before.maps);
  const [height, width] = [before.rows + 1, before.columns + 1];
  const rows = Math.ceil(before.maps / across) * height - 1;
  const columns = across * width - 1;
  paint(canvas, rows, columns, (r, c) => {
    const map = Math.floor(r / height) * across + Math.floor(c / width);
    const gap = r % height === before.rows || c % width === before.columns || map >= before.maps;
    return gap ? undefined : products[((r % height) * before.columns + (c % width)) * before.maps + map];
  }, (value) => colourOf(value, scale));
  canvas.style.aspectRatio = `${columns} / ${rows}`;
  return canvas;
}

function inputName(before, i) {
  if (before.kind === "dense") return `unit ${i}`;
  const place = Math.floor(i / before.maps);
  return `map ${i % before.maps}, row ${Math.floor(place / before.columns)}, col. ${place % before.columns}`;
}

function detailOfUnit(layers, outputs, place) {
  const layer = layers[place.layer];
  const before = layers[place.layer - 1];
  const input = outputs[place.layer - 1];
  const unit = place.row * layer.columns + place.column;
  const weight = (i) => layer.kernel[i * layer.units + unit];
  const products = Float32Array.from(input, (value, i) => value * weight(i));
  const order = Array.from(products.keys()).sort((a, b) => Math.abs(products[b]) - Math.abs(products[a]));
  const total = products.reduce((a, b) => a + b, 0);
  const most = order.slice(0, MOST_TERMS);
  const others = total - most.reduce((sum, i) => sum + products[i], 0);
  const scale = largestMagnitude(products);
  const row = (i) => h("tr", {}, h("th", { scope: "row" }, inputName(before, i)), shown("td", input[i], 2), shown("td", weight(i), 2),
    shown("td", products[i], 2, { style: `background: ${tint(products[i], scale)}` }));
  const sum = total + layer.bias[unit];
  const value = valueAt(layers, outputs, place);
  return [
    h("p", {}, `All ${input.length} values of ${before.name} times this unit's weights:`),
    productsPicture(before, products, scale),
    h("table", { class: "terms" },
      h("caption", {}, `The ${most.length} largest products`),
      h("thead", {}, h("tr", {}, ["input", "value", "weight", "product"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, most.map(row), h("tr", {}, h("th", { scope: "row", colspan: "3" }, `the other ${order.length - most.length}`), shown("td", others, 2)))),
    sumLine([
      "Sum ", shown("b", total, 3, { class: "total" }), " + bias ", shown("b", layer.bias[unit], 3, { class: "bias" }), " = ",
      layer.relu
        ? [shown("b", sum, 3), h("br"), "ReLU: max(0, ", num(sum, 3), ") = ", shown("strong", value, 3, { class: "value" })]
        : shown("strong", value, 3, { class: "value" }),
    ].flat()),
  ];
}

function detailOfSoftmax(layers, outputs, probabilities, digit) {
  const logits = outputs[outputs.length - 1];
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return [
    h("p", {}, "Softmax turns the ten logits into probabilities: e to the power of each logit, divided by the sum of all ten. ",
      "The largest logit is subtracted first, so that no power overflows."),
    h("table", { class: "terms" },
      h("thead", {}, h("tr", {}, ["digit", "logit", "power", "probability"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, powers.map((power, i) => h("tr", { class: i === digit ? "chosen" : null }, h("th", { scope: "row" }, `${i}`),
        shown("td", logits[i], 2), shown("td", power, 3), h("td", { "data-value": probabilities[i] }, percent(probabilities[i])))))),
    sumLine([num(powers[digit], 3), " / ", num(sum, 3), " = ",
      h("strong", { class: "value", "data-value": probabilities[digit] }, percent(probabilities[digit]))]),
  ];
}

/** Heading and content of the panel for a place. */
function detailOf(layers, result, place) {
  const { outputs, probabilities } = result;
  if (place.softmax !== undefined) {
    return { title: `Probability of ${place.softmax}`, content: detailOfSoftmax(layers, outputs, probabilities, place.softmax) };
  }
  const kinds = { input: detailOfInput, conv: detailOfConvolution, pool: detailOfPool, dense: detailOfUnit };
  const content = kinds[layers[place.layer].kind](layers, outputs, place);
  const field = receptiveFields(layers, place)[0];
  if (place.layer > 0) {
    content.push(h("p", { class: "hint" }, `It sees ${by(field.rows, field.columns)} pixels of the image, outlined there.`));
  }
  return { title: placeName(layers, place), content };
}
