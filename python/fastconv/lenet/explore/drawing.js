// The pad for drawing, and how a drawing becomes an image as MNIST has them: the ink scaled into a box of 20 x 20,
// and its centre of mass moved to the middle of 28 x 28.

const PAD = 280; // pixels of the pad's canvas
const PEN = 24;
const BOX = 20;
const SIDE = 28;
const MIDDLE = 14; // where MNIST has the centre of mass, in rows and columns from 0

function inkBounds(ink, rows, columns) {
  let [top, bottom, left, right] = [rows, -1, columns, -1];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if (ink[row * columns + column] > 0) {
        top = Math.min(top, row);
        bottom = row;
        left = Math.min(left, column);
        right = Math.max(right, column);
      }
    }
  }
  return bottom < 0 ? null : { top, left, rows: bottom - top + 1, columns: right - left + 1 };
}

/** For each of `count` parts of a length: the first place it covers, and the share of each place it covers. */
function shares(length, count) {
  return Array.from({ length: count }, (_, part) => {
    const [from, to] = [(part * length) / count, ((part + 1) * length) / count];
    const first = Math.floor(from);
    const weights = [];
    for (let place = first; place < to && place < length; place++) {
      weights.push((Math.min(place + 1, to) - Math.max(place, from)) / (to - from));
    }
    return { first, weights };
  });
}

/** Mean ink of each cell of a grid over the bounds. */
function shrink(ink, stride, bounds, rows, columns) {
  const down = shares(bounds.rows, rows);
  const across = shares(bounds.columns, columns);
  const narrow = new Float32Array(bounds.rows * columns);
  for (let row = 0; row < bounds.rows; row++) {
    const start = (bounds.top + row) * stride + bounds.left;
    across.forEach(({ first, weights }, column) => {
      let sum = 0;
      weights.forEach((weight, i) => { sum += weight * ink[start + first + i]; });
      narrow[row * columns + column] = sum;
    });
  }
  const small = new Float32Array(rows * columns);
  down.forEach(({ first, weights }, row) => {
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      weights.forEach((weight, i) => { sum += weight * narrow[(first + i) * columns + column]; });
      small[row * columns + column] = sum;
    }
  });
  return small;
}

/** The image of 28 x 28 values from 0 to 1. All zeros if there is no ink. */
function normalise(ink, rows, columns) {
  const pixels = new Float32Array(SIDE * SIDE);
  const bounds = inkBounds(ink, rows, columns);
  if (bounds === null) return pixels;
  const scale = BOX / Math.max(bounds.rows, bounds.columns);
  const [height, width] = [bounds.rows, bounds.columns].map((length) => Math.max(1, Math.round(length * scale)));
  const small = shrink(ink, columns, bounds, height, width);
  let [mass, down, across] = [0, 0, 0];
  small.forEach((value, i) => {
    mass += value;
    down += value * Math.floor(i / width);
    across += value * (i % width);
  });
  const top = Math.round(MIDDLE - down / mass);
  const left = Math.round(MIDDLE - across / mass);
  small.forEach((value, i) => {
    const row = top + Math.floor(i / width);
    const column = left + (i % width);
    if (row >= 0 && row < SIDE && column >= 0 && column < SIDE) pixels[row * SIDE + column] = value;
  });
  return pixels;
}

/** The pad. It calls `changed` with an image after each change, and `finished` at the end of a stroke. */
class Pad {
  constructor(canvas, changed, finished) {
    this.canvas = canvas;
    this.changed = changed;
    this.finished = finished;
    this.strokes = [];
    this.pen = { x: PAD / 2, y: PAD / 2, down: false, shown: false }; // moved by the keyboard
    canvas.width = canvas.height = PAD;
    // Only the strokes, without the pen of the keyboard.
    this.sheet = new OffscreenCanvas(PAD, PAD).getContext("2d", { willReadFrequently: true });
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.follow(event));
    canvas.addEventListener("pointerup", (event) => this.end(event));
    canvas.addEventListener("pointercancel", (event) => this.end(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.liftPen());
  }

  point(event) {
    const area = this.canvas.getBoundingClientRect();
    return [((event.clientX - area.left) / area.width) * PAD, ((event.clientY - area.top) / area.height) * PAD];
  }

  begin(event) {
    if (event.button !== 0) return;
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.point(event)]);
    this.redraw();
  }

  follow(event) {
    if (event.pointerId !== this.pointer) return;
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const each of events.length ? events : [event]) this.strokes[this.strokes.length - 1].push(this.point(each));
    this.redraw();
  }

  end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.finish();
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const pen = this.pen;
    if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) this.strokes.push([[pen.x, pen.y]]);
      else this.finish();
    } else if (event.key in moves) {
      const step = PAD / SIDE;
      const moved = (from, by) => Math.max(step, Math.min(PAD - step, from + by * step));
      pen.x = moved(pen.x, moves[event.key][0]);
      pen.y = moved(pen.y, moves[event.key][1]);
      if (pen.down) this.strokes[this.strokes.length - 1].push([pen.x, pen.y]);
    } else {
      return;
    }
    event.preventDefault();
    pen.shown = true;
    this.redraw();
  }

  liftPen() {
    this.pen.down = this.pen.shown = false;
    this.repaint();
  }

  undo() {
    this.strokes.pop();
    this.pen.down = false;
    this.redraw();
  }

  clear() {
    this.strokes = [];
    this.pen.down = false;
    this.redraw();
  }

  /** The canvas follows at once; the network once per frame. */
  redraw() {
    this.repaint();
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => this.update());
  }

  update() {
    if (!this.waiting) return;
    this.waiting = false;
    this.changed(this.pixels());
  }

  finish() {
    this.update();
    this.finished();
  }

  pixels() {
    this.stroke(this.sheet, "black");
    const data = this.sheet.getImageData(0, 0, PAD, PAD).data;
    const ink = new Float32Array(PAD * PAD);
    for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3] / 255;
    return normalise(ink, PAD, PAD);
  }

  repaint() {
    const context = this.canvas.getContext("2d");
    this.stroke(context, `rgb(${ramps.theme.ink})`);
    if (this.pen.shown) {
      context.beginPath();
      context.arc(this.pen.x, this.pen.y, PEN / 2, 0, 2 * Math.PI);
      context.strokeStyle = `rgb(${ramps.theme.above})`;
      context.lineWidth = this.pen.down ? 8 : 3;
      context.stroke();
    }
  }

  stroke(context, colour) {
    context.clearRect(0, 0, PAD, PAD);
    context.strokeStyle = colour;
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    for (const [first, ...others] of this.strokes) {
      context.beginPath();
      context.moveTo(...first);
      for (const point of others.length ? others : [first]) context.lineTo(...point);
      context.stroke();
    }
  }
}
