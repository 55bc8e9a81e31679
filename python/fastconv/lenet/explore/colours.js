// Colours. Orange is above zero and blue below, which most colour-blind people can tell apart. Zero is the paper.

const THEMES = {
  light: { paper: [255, 255, 255], ink: [24, 28, 34], below: [0, 92, 170], above: [213, 94, 0] },
  dark: { paper: [24, 28, 34], ink: [244, 244, 240], below: [90, 176, 245], above: [245, 160, 40] },
};
const darkMode = matchMedia("(prefers-color-scheme: dark)");
let ramps = null; // 511 colours from below to above, and 256 from paper to ink, as the words of an ImageData

function ramp(from, to, count) {
  return Array.from({ length: count }, (_, i) => {
    const [red, green, blue] = from.map((start, part) => Math.round(start + ((to[part] - start) * i) / (count - 1)));
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

function chooseColours() {
  const theme = THEMES[darkMode.matches ? "dark" : "light"];
  const below = ramp(theme.paper, theme.below, 256).reverse();
  ramps = {
    theme,
    signed: Uint32Array.from(below.concat(ramp(theme.paper, theme.above, 256).slice(1))),
    ink: Uint32Array.from(ramp(theme.paper, theme.ink, 256)),
  };
}

function colourOf(value, scale) {
  const share = scale > 0 ? value / scale : 0;
  return ramps.signed[255 + Math.max(-255, Math.min(255, Math.round(share * 255) || 0))];
}

function inkOf(value) {
  return ramps.ink[Math.max(0, Math.min(255, Math.round(value * 255) || 0))];
}

/** The background of a table's cell: pale enough for the text on it. */
function tint(value, scale) {
  const share = scale > 0 ? Math.min(1, Math.abs(value) / scale) || 0 : 0;
  const [red, green, blue] = value < 0 ? ramps.theme.below : ramps.theme.above;
  return `rgba(${red}, ${green}, ${blue}, ${(share * 0.5).toFixed(3)})`;
}

/** Paint a canvas of one pixel per value. `valueAt(row, column)` is undefined where nothing is to be painted. */
function paint(canvas, rows, columns, valueAt, colour) {
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const words = new Uint32Array(image.data.buffer);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const value = valueAt(row, column);
      if (value !== undefined) words[row * columns + column] = colour(value);
    }
  }
  context.putImageData(image, 0, 0);
}

function largestMagnitude(values) {
  let largest = 0;
  for (const value of values) if (Math.abs(value) > largest) largest = Math.abs(value);
  return largest;
}
