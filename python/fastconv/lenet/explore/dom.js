// Elements, numbers and words.

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function num(value, decimals = 2) {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  const shown = value.toFixed(size >= 99.5 ? 0 : size >= 9.995 ? Math.min(1, decimals) : decimals);
  return /^-[0.]*$/.test(shown) ? shown.slice(1) : shown.replace("-", "−");
}

function percent(share) {
  if (!Number.isFinite(share)) return String(share);
  return `${share > 0.9995 && share < 1 ? ">\u00a099.9" : share > 0 && share < 0.0005 ? "<\u00a00.1" : (100 * share).toFixed(1)}\u00a0%`;
}

function largestOf(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

/** A value that a test can read with all its digits. */
function shown(tag, value, decimals, attributes = {}) {
  return h(tag, { ...attributes, "data-value": String(value) }, num(value, decimals));
}

function by(...sizes) {
  return sizes.join(" × ");
}
