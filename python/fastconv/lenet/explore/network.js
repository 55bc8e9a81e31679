// The trained network, in float32 arithmetic. Values of a map layer lie in the order (row, column, map).

const f32 = Math.fround;

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function floatsOf(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

/** The layers, the image first, each with the sizes of its output. */
function readLayers(described) {
  const layers = [{ name: "input", kind: "input", rows: 28, columns: 28, maps: 1 }];
  for (const layer of described) {
    const before = layers[layers.length - 1];
    const found = { ...layer, index: layers.length };
    if (layer.kind === "pool") {
      found.rows = Math.floor(before.rows / layer.size);
      found.columns = Math.floor(before.columns / layer.size);
      found.maps = before.maps;
    } else {
      found.kernel = floatsOf(layer.kernel);
      found.bias = floatsOf(layer.bias);
    }
    if (layer.kind === "conv") {
      found.size = layer.shape[0];
      found.rows = before.rows - found.size + 1;
      found.columns = before.columns - found.size + 1;
      found.maps = layer.shape[3];
    } else if (layer.kind === "dense") {
      // Drawn as one map, at most 24 units wide.
      const units = layer.shape[1];
      found.units = units;
      found.columns = [24, 21, 20, 16, 12, 10].find((width) => units % width === 0) || Math.min(units, 20);
      found.rows = Math.ceil(units / found.columns);
      found.maps = 1;
    }
    layers.push(found);
  }
  layers[0].index = 0;
  return layers;
}

function convolve(layer, before, input) {
  const { size, rows, columns, maps, kernel, bias } = layer;
  const channels = before.maps;
  const output = new Float32Array(rows * columns * maps);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = (row * columns + column) * maps;
      for (let r = 0; r < size; r++) {
        const start = ((row + r) * before.columns + column) * channels;
        for (let i = 0; i < size * channels; i++) {
          const value = input[start + i];
          const weights = (r * size * channels + i) * maps;
          for (let map = 0; map < maps; map++) {
            output[at + map] = f32(output[at + map] + f32(value * kernel[weights + map]));
          }
        }
      }
      for (let map = 0; map < maps; map++) output[at + map] = f32(output[at + map] + bias[map]);
    }
  }
  return output;
}

/** Where the largest value of a pool's window lies: row and column in the layer before. The first of equal ones. */
function chosenByPool(layer, before, input, row, column, map) {
  let best = [row * layer.size, column * layer.size];
  const at = (place) => input[(place[0] * before.columns + place[1]) * before.maps + map];
  for (let r = 0; r < layer.size; r++) {
    for (let c = 0; c < layer.size; c++) {
      const place = [row * layer.size + r, column * layer.size + c];
      if (at(place) > at(best)) best = place;
    }
  }
  return { row: best[0], column: best[1], value: at(best) };
}

function pool(layer, before, input) {
  const output = new Float32Array(layer.rows * layer.columns * layer.maps);
  let at = 0;
  for (let row = 0; row < layer.rows; row++) {
    for (let column = 0; column < layer.columns; column++) {
      for (let map = 0; map < layer.maps; map++) {
        output[at++] = chosenByPool(layer, before, input, row, column, map).value;
      }
    }
  }
  return output;
}

function dense(layer, input) {
  const { units, kernel, bias } = layer;
  const output = new Float32Array(units);
  for (let i = 0; i < input.length; i++) {
    const value = input[i];
    if (value === 0) continue;
    for (let unit = 0; unit < units; unit++) {
      output[unit] = f32(output[unit] + f32(value * kernel[i * units + unit]));
    }
  }
  for (let unit = 0; unit < units; unit++) {
    const sum = f32(output[unit] + bias[unit]);
    output[unit] = layer.relu && sum < 0 ? 0 : sum;
  }
  return output;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Float32Array.from(logits, (logit) => Math.exp(f32(logit - largest)));
  const sum = powers.reduce((total, power) => f32(total + power), 0);
  return powers.map((power) => f32(power / sum));
}

/** The outputs of all layers for an image of 784 values from 0 to 1. */
function forward(layers, pixels) {
  const outputs = [pixels];
  for (const layer of layers.slice(1)) {
    const before = layers[layer.index - 1];
    const input = outputs[layer.index - 1];
    if (layer.kind === "conv") outputs.push(convolve(layer, before, input));
    else if (layer.kind === "pool") outputs.push(pool(layer, before, input));
    else outputs.push(dense(layer, input));
  }
  return { outputs, probabilities: softmax(outputs[outputs.length - 1]) };
}

/** The part of the layer before that a value is computed from. */
function windowOf(layers, layer, box) {
  const before = layers[layer.index - 1];
  if (layer.kind === "dense") return { row: 0, column: 0, rows: before.rows, columns: before.columns };
  const stride = layer.kind === "pool" ? layer.size : 1;
  const grown = (values) => (values - 1) * stride + layer.size;
  return {
    row: box.row * stride, column: box.column * stride, rows: grown(box.rows), columns: grown(box.columns),
  };
}

/** The receptive field of a value: a box for each layer up to its own. */
function receptiveFields(layers, place) {
  const boxes = [];
  boxes[place.layer] = { row: place.row, column: place.column, rows: 1, columns: 1 };
  for (let index = place.layer; index > 0; index--) {
    boxes[index - 1] = windowOf(layers, layers[index], boxes[index]);
  }
  return boxes;
}
