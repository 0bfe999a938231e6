"use strict";
// Where a time stands: run time (µs) to the page's own unit and on to pixels. Squeezed, the time between two events takes room
// by its logarithm, so that a transition of 2 ms and a time-out of 300 ms are seen in one picture; else all time is alike.

class Scale {
  // `times`: when something happened, ascending.
  constructor(times, from, to) {
    const knots = [from];
    for (const t of times) if (t > knots[knots.length - 1]) knots.push(t);
    if (to > knots[knots.length - 1]) knots.push(to);
    if (knots.length < 2) knots.push(from + 1000);
    this.knots = knots;
    this.squeezed = true;
    this.place();
  }

  place() {
    const { knots } = this;
    const unit = 40;
    const at = new Float64Array(knots.length);
    for (let i = 1; i < knots.length; i++) {
      const gap = knots[i] - knots[i - 1];
      at[i] = at[i - 1] + (this.squeezed ? Math.log1p(gap / unit) : gap);
    }
    this.at = at;
    this.end = at[at.length - 1];
    // A little room at either side: what stands at the very edge is seen.
    const room = this.end * 0.012;
    this.low = -room;
    this.high = this.end + room;
    this.show(this.low, this.high);
  }

  show(left, right) {
    const all = this.high - this.low;
    const least = this.squeezed ? 1.5 : Math.min(50, all);
    const width = Math.min(Math.max(right - left, least), all);
    const middle = (left + right) / 2;
    this.left = Math.min(Math.max(middle - width / 2, this.low), this.high - width);
    this.right = this.left + width;
  }

  static search(list, value) {
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  unit(t) {
    const { knots, at } = this;
    const i = Math.min(Math.max(Scale.search(knots, t), 1), knots.length - 1);
    return at[i - 1] + ((t - knots[i - 1]) * (at[i] - at[i - 1])) / (knots[i] - knots[i - 1]);
  }

  time(unit) {
    const { knots, at } = this;
    const i = Math.min(Math.max(Scale.search(at, unit), 1), knots.length - 1);
    return knots[i - 1] + ((unit - at[i - 1]) * (knots[i] - knots[i - 1])) / (at[i] - at[i - 1]);
  }

  // Pixels from `x0` on, `width` of them.
  lay(x0, width) {
    this.x0 = x0;
    this.width = width;
  }

  x(t) {
    return this.xOf(this.unit(t));
  }

  xOf(unit) {
    return this.x0 + ((unit - this.left) / (this.right - this.left)) * this.width;
  }

  timeAt(x) {
    return this.time(this.left + ((x - this.x0) / this.width) * (this.right - this.left));
  }

  zoom(factor, x) {
    const part = (x - this.x0) / this.width;
    const middle = this.left + part * (this.right - this.left);
    const width = (this.right - this.left) * factor;
    this.show(middle - part * width, middle + (1 - part) * width);
  }

  move(pixels) {
    const by = (pixels / this.width) * (this.right - this.left);
    this.show(this.left + by, this.right + by);
  }

  // Shows a time or a range in the middle.
  focus(from, to) {
    const a = this.unit(from);
    const b = this.unit(to);
    const least = this.squeezed ? Math.min(12, this.end) : (this.right - this.left) / 3;
    const width = Math.max((b - a) * 1.25, Math.min(least, this.high - this.low));
    this.show((a + b) / 2 - width / 2, (a + b) / 2 + width / 2);
  }
}

function took(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  const [value, unit] = us < 1e6 ? [us / 1e3, "ms"] : [us / 1e6, "s"];
  return `${value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

function moment(us, exact) {
  return `${(us / 1e6).toFixed(exact ? 6 : 3)} s`;
}
