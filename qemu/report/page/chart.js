// The lanes on a canvas. Only what can be seen is drawn, and of what would stand on one pixel, one.

const GUTTER = 126;
const AXIS = 42;
const FONT = '11.5px system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';
const ARROWS_MAX = 2500;

// The sign of each event: shape, colour, size; `loud` ones are never left out for room.
const SIGNS = {
  boot: ["up", "--joined-ink", 5, true, "a life begins"],
  halt: ["square", "--dim", 4.5, true, "wanted end"],
  panic: ["cross", "--forced-ink", 5.5, true, "unwanted end"],
  epitaph: ["cross", "--dim", 4, true, "what the last life left"],
  suspect: ["diamond", "--leaving-ink", 4.5, true, "a peer fell silent"],
  trust: ["ring", "--joined-ink", 3, false, "a peer is heard"],
  fence: ["square", "--fence-ink", 4.5, true, "fence through"],
  refuse: ["cross", "--leaving-ink", 4.5, true, "a join refused"],
  waiting: ["down", "--leaving-ink", 4.5, true, "long not acknowledged"],
  overdue: ["down", "--forced-ink", 5.5, true, "deadline passed"],
  lock: ["ring", "--master", 3, false, "master lock: want, wait"],
  acquired: ["star", "--master", 6.5, true, "master lock acquired"],
  lost: ["star", "--forced-ink", 5, true, "master lock lost"],
  view: ["bar", "--joining-ink", 5, false, "view adopted"],
  state: ["bar", "--joined-ink", 4, false, "all have acknowledged"],
  stale_ack: ["cross", "--leaving-ink", 3, true, "acknowledged too late"],
  assert: ["dot", "--joined-ink", 3, false, "expectation held"],
  failed: ["cross", "--forced-ink", 5.5, true, "expectation failed"],
  preempt: ["square", "--fence-ink", 3.5, true, "a key is preempted"],
  other: ["dot", "--dim", 1.8, false, "anything else"],
};

function signOf(event) {
  if (event.ev === "lock") return { acquired: "acquired", lost: "lost" }[event.fields.phase] ?? "lock";
  if (event.ev === "assert" && event.fields.ok === false) return "failed";
  return SIGNS[event.ev] ? event.ev : "other";
}

function shape(c, kind, x, y, r) {
  c.beginPath();
  switch (kind) {
    case "up": c.moveTo(x, y - r); c.lineTo(x + r, y + r * 0.8); c.lineTo(x - r, y + r * 0.8); c.closePath(); break;
    case "right": c.moveTo(x + r, y); c.lineTo(x - r * 0.8, y + r); c.lineTo(x - r * 0.8, y - r); c.closePath(); break;
    case "down": c.moveTo(x, y + r); c.lineTo(x + r, y - r * 0.8); c.lineTo(x - r, y - r * 0.8); c.closePath(); break;
    case "square": c.rect(x - r * 0.85, y - r * 0.85, r * 1.7, r * 1.7); break;
    case "diamond": c.moveTo(x, y - r); c.lineTo(x + r, y); c.lineTo(x, y + r); c.lineTo(x - r, y); c.closePath(); break;
    case "bar": c.rect(x - 0.75, y - r, 1.5, 2 * r); break;
    case "star":
      for (let i = 0; i < 10; i++) {
        const [a, s] = [(i * Math.PI) / 5 - Math.PI / 2, i % 2 ? r * 0.45 : r];
        c[i ? "lineTo" : "moveTo"](x + s * Math.cos(a), y + s * Math.sin(a));
      }
      c.closePath();
      break;
    case "cross": c.moveTo(x - r, y - r); c.lineTo(x + r, y + r); c.moveTo(x + r, y - r); c.lineTo(x - r, y + r); break;
    default: c.arc(x, y, r, 0, 7);
  }
  if (kind === "cross" || kind === "ring") {
    c.lineWidth = kind === "cross" ? 2.2 : 1.3;
    c.stroke();
  } else c.fill();
}

function arrowhead(c, x, y, angle, size) {
  c.beginPath();
  c.moveTo(x, y);
  c.lineTo(x - size * Math.cos(angle - 0.45), y - size * Math.sin(angle - 0.45));
  c.lineTo(x - size * Math.cos(angle + 0.45), y - size * Math.sin(angle + 0.45));
  c.closePath();
  c.fill();
}

class Chart {
  constructor(model, canvas, box, spacer) {
    Object.assign(this, { model, canvas, box, spacer });
    this.c = canvas.getContext("2d");
    this.arrows = true;
    this.disk = false;
    this.hot = null;
    this.kept = null;
    this.found = [];
    this.inks = new Map();
    this.drawn = 0;
    this.lines = model.arrows
      .map(([a, b]) => ({ a: model.events[a], b: model.events[b] }))
      .map((l) => ({ ...l, from: Math.min(l.a.t, l.b.t), to: Math.max(l.a.t, l.b.t) }))
      .sort((p, q) => p.from - q.from);
    let latest = -Infinity;
    this.lines.latest = this.lines.map((l) => (latest = Math.max(latest, l.to)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.inks.clear();
      this.draw();
    });
  }

  ink(name) {
    if (!name.startsWith("--")) return name;
    let ink = this.inks.get(name);
    if (!ink) this.inks.set(name, (ink = getComputedStyle(document.documentElement).getPropertyValue(name).trim()));
    return ink;
  }

  size() {
    const { model, box, canvas } = this;
    const whole = model.height + AXIS;
    const most = Math.max(260, Math.round(innerHeight * 0.66));
    this.h = Math.min(whole, most);
    box.style.height = `${this.h + 2}px`;
    this.spacer.style.height = `${whole}px`;
    this.w = box.clientWidth;
    const dpr = devicePixelRatio || 1;
    canvas.width = Math.round(this.w * dpr);
    canvas.height = Math.round(this.h * dpr);
    canvas.style.width = `${this.w}px`;
    canvas.style.height = `${this.h}px`;
    this.c.setTransform(dpr, 0, 0, dpr, 0, 0);
    model.scale.lay(GUTTER, this.w - GUTTER);
    this.draw();
  }

  soon() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = undefined;
      this.draw();
    });
  }

  y(lane) {
    return AXIS + lane.y - this.box.scrollTop;
  }

  draw() {
    const { c, model, w, h } = this;
    const { scale } = model;
    this.hits = [];
    this.drawn = 0;
    this.from = scale.timeAt(GUTTER);
    this.to = scale.timeAt(w);
    c.font = FONT;
    c.textBaseline = "middle";
    c.fillStyle = this.ink("--back");
    c.fillRect(0, 0, w, h);
    c.save();
    c.beginPath();
    c.rect(GUTTER, AXIS, w - GUTTER, h - AXIS);
    c.clip();
    const lanes = model.lanes.filter((l) => this.y(l) < h && this.y(l) + l.h > AXIS);
    lanes.forEach((l) => this.ground(l));
    this.faultLines();
    lanes.forEach((l) => this.bars(l));
    lanes.forEach((l) => this.marks(l));
    if (this.arrows) this.drawArrows();
    this.rings();
    c.restore();
    this.axis();
    this.gutter();
    this.canvas.dataset.drawn = this.drawn;
  }

  hit(x0, y0, x1, y1, item) {
    this.hits.push([x0, y0, x1, y1, item]);
    this.drawn++;
  }

  // Left and right edge of something that lasts, cut to what is seen; at least so wide.
  edges(item, least) {
    const { scale } = this.model;
    let x0 = Math.max(scale.x(item.from), GUTTER - 4);
    let x1 = Math.min(scale.x(item.to), this.w + 4);
    if (x1 - x0 < least) {
      const middle = (x0 + x1) / 2;
      [x0, x1] = [middle - least / 2, middle + least / 2];
    }
    return [x0, x1];
  }

  // States, and the times in which a node did not live.
  ground(lane) {
    const { c } = this;
    const y = this.y(lane);
    if (lane.kind === "node" || lane.kind === "level") {
      for (const life of this.lives(lane)) {
        const [x0, x1] = this.edges({ from: life.from_us, to: life.to_us }, 1);
        if (lane.kind === "node") this.hit(x0, y, x1, y + lane.h, { type: "life", from: life.from_us, to: life.to_us, what: life });
      }
    }
    let last = -1;
    const labels = [];
    for (const item of Model.seen(lane.backs, this.from, this.to)) {
      const [x0, x1] = this.edges(item, 1);
      if (x1 < last + 0.5) continue;
      last = x1;
      c.fillStyle = this.ink(item.colour);
      c.fillRect(x0, y + 1, x1 - x0, lane.h - 2);
      this.hit(x0, y, x1, y + lane.h, item);
      if (lane.kind === "node" && x1 - x0 > 64) labels.push([item.what.is, Math.max(x0, GUTTER) + 6, x1]);
    }
    if (lane.node !== undefined) this.off(lane, y);
    for (const [text, x, x1] of labels) this.label(text, x, y + 11, x1, "--dim");
    c.fillStyle = this.ink(lane.first ? "--line" : "--faint");
    c.fillRect(GUTTER, y, this.w - GUTTER, 1);
  }

  lives(lane) {
    return this.model.lives.filter((l) => l.node === lane.node && l.to_us >= this.from && l.from_us <= this.to);
  }

  // Hatched: the node does not live. What others take it for shows through.
  off(lane, y) {
    const { c } = this;
    let x = GUTTER;
    const hatch = (to) => {
      if (to <= x) return;
      c.save();
      c.beginPath();
      c.rect(x, y, to - x, lane.h);
      c.clip();
      c.fillStyle = this.ink("--off");
      c.globalAlpha = 0.55;
      c.fillRect(x, y, to - x, lane.h);
      c.globalAlpha = 1;
      c.strokeStyle = this.ink("--line");
      c.lineWidth = 1;
      c.beginPath();
      // Lines that go on from row to row.
      const shift = (this.model.lanes[0].y + lane.y) % 8;
      for (let a = Math.floor((x - lane.h) / 8) * 8 + shift; a < to; a += 8) {
        c.moveTo(a, y + lane.h);
        c.lineTo(a + lane.h, y);
      }
      c.stroke();
      c.restore();
    };
    for (const life of this.lives(lane)) {
      const [x0, x1] = this.edges({ from: life.from_us, to: life.to_us }, 1);
      hatch(x0);
      x = life.end === "alive" ? this.w : Math.max(x, x1);
    }
    if (!this.lives(lane).some((l) => l.to_us >= this.to)) hatch(this.w);
  }

  label(text, x, y, x1, ink) {
    const { c } = this;
    const room = x1 - x - 3;
    if (room < 12) return;
    c.fillStyle = this.ink(ink);
    let shown = text;
    if (c.measureText(shown).width > room) {
      while (shown.length > 1 && c.measureText(`${shown}…`).width > room) shown = shown.slice(0, -1);
      if (shown.length < 2) return;
      shown += "…";
    }
    c.fillText(shown, x, y);
  }

  faultLines() {
    const { c, model } = this;
    for (const item of Model.seen(model.harness.bars, this.from, this.to)) {
      if (item.what.kind === "act") continue;
      const x = model.scale.x(item.from);
      c.strokeStyle = this.ink(item.colour);
      c.globalAlpha = 0.55;
      c.setLineDash([3, 3]);
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(x, AXIS);
      c.lineTo(x, this.h);
      c.stroke();
      c.setLineDash([]);
      c.globalAlpha = 1;
    }
  }

  bars(lane) {
    const { c } = this;
    const y = this.y(lane);
    const slots = lane.slots ?? 1;
    const ends = [-1, -1, -1];
    let last = new Map();
    for (const item of Model.seen(lane.bars, this.from, this.to)) {
      const [x0, x1] = this.edges(item, item.type === "step" ? 3 : 2);
      // What ends within a pixel of one like it adds nothing.
      const like = `${item.slot ?? 0}${item.colour}`;
      if (x1 < (last.get(like) ?? -9) + 0.7 && item !== this.hot) continue;
      last.set(like, x1);
      if (item.type === "fault") this.fault(lane, item, x0, x1, y, ends);
      else if (item.type === "term") {
        c.fillStyle = this.ink(item.colour);
        c.globalAlpha = 0.22;
        c.fillRect(x0, y + 3, x1 - x0, lane.h - 6);
        c.globalAlpha = 1;
        c.fillRect(x0, y + 3, 2, lane.h - 6);
        this.label(`${item.label}, ballot ${item.what.ballot}`, Math.max(x0, GUTTER) + 6, y + lane.h / 2 + 1, x1, item.colour);
        this.hit(x0, y, x1, y + lane.h, item);
      } else if (item.type === "spell") {
        c.fillStyle = this.ink(item.colour);
        c.fillRect(x0, y + 4, x1 - x0, 13);
        c.fillStyle = this.ink(item.ink);
        c.fillRect(x0, y + 16, x1 - x0, 1.5);
        this.label(item.label, Math.max(x0, GUTTER) + 4, y + 11, x1, item.ink);
        this.hit(x0, y + 4, x1, y + 18, item);
      } else this.step(lane, item, x0, x1, y, slots);
    }
    this.tops(lane, y);
  }

  // From the notification to its acknowledgement.
  step(lane, item, x0, x1, y, slots) {
    const { c } = this;
    const height = (lane.h - 6) / slots;
    const y0 = y + 4 + item.slot * height;
    const h = Math.max(height - (slots > 1 ? 1 : 0), 1.5);
    const { end } = item.what;
    c.fillStyle = this.ink(item.colour);
    if (end === "acked") c.fillRect(x0, y0, x1 - x0, h);
    else {
      // Not answered: an open end.
      c.globalAlpha = 0.35;
      c.fillRect(x0, y0, x1 - x0, h);
      c.globalAlpha = 1;
      c.strokeStyle = this.ink("--forced-ink");
      c.lineWidth = 1.3;
      c.setLineDash([3, 2]);
      c.strokeRect(x0 + 0.5, y0 + 0.5, Math.max(x1 - x0 - 1, 1), h - 1);
      c.setLineDash([]);
    }
    if (h > 7 && x1 - x0 > 11 && end === "acked") {
      c.strokeStyle = c.fillStyle = this.ink("--back");
      const wide = x1 - x0 > 74;
      const a = Math.max(wide ? x1 - 16 : x0 + 3, x0 + 3);
      c.lineWidth = 1.2;
      c.beginPath();
      c.moveTo(a, y0 + h / 2);
      c.lineTo(x1 - 4, y0 + h / 2);
      c.stroke();
      arrowhead(c, x1 - 2, y0 + h / 2, 0, 5);
      if (wide) this.label(item.label, Math.max(x0, GUTTER) + 4, y0 + h / 2 + 0.5, x1 - 16, "--back");
    }
    this.hit(x0 - 1, y0 - 1, x1 + 1, y0 + h + 1, item);
  }

  fault(lane, item, x0, x1, y, ends) {
    const { c } = this;
    const row = ends.findIndex((e) => e < x0 - 2);
    const width = c.measureText(item.label).width + 12;
    const lasts = item.to > item.from;
    // Two rows, and where both are taken the sign alone.
    const at = row === 0 || row === 1 ? row : 1;
    const y0 = y + 2 + at * 15;
    if (lasts) {
      c.fillStyle = this.ink(item.colour);
      c.globalAlpha = 0.18;
      c.fillRect(x0, y0, x1 - x0, 14);
      c.globalAlpha = 1;
    }
    c.fillStyle = this.ink(item.colour);
    shape(c, item.what.kind === "fault" ? "down" : item.what.kind === "repair" ? "up" : "dot", Math.max(x0, GUTTER) + (lasts ? 5 : 1), y0 + 7, item.what.kind === "act" ? 2.5 : 4.5);
    if (row === 0 || row === 1) {
      this.label(item.label, Math.max(x0, GUTTER) + 10, y0 + 7.5, this.w, item.colour);
      ends[row] = Math.max(x0, GUTTER) + width;
    }
    this.hit(x0 - 4, y0, Math.max(x1, x0 + (row >= 0 && row < 2 ? width : 6)), y0 + 14, item);
  }

  // A round in the master's row, a term in the master's own lane: a line along the upper edge.
  tops(lane, y) {
    const { c } = this;
    let last = -9;
    for (const item of Model.seen(lane.tops, this.from, this.to)) {
      const [x0, x1] = this.edges(item, 2);
      if (x1 < last + 0.7) continue;
      last = x1;
      c.fillStyle = this.ink(item.colour);
      const thick = item.type === "term" ? 3 : 2;
      c.fillRect(x0, y + 1, x1 - x0, thick);
      if (item.type === "round" && x1 - x0 > 4) {
        c.fillRect(x0, y + 1, 1.2, 5);
        c.fillRect(x1 - 1.2, y + 1, 1.2, 5);
      }
      this.hit(x0 - 1, y, x1 + 1, y + thick + 2, item);
    }
  }

  marks(lane) {
    const { c, model } = this;
    const y = this.y(lane) + (lane.kind === "node" ? 22 : lane.h / 2 + 1);
    const last = {};
    for (const item of Model.between(lane.marks, this.from, this.to)) {
      const event = item.what;
      if (event.ev === "notify" || event.ev === "ack" || (!this.disk && QUIET.has(event.ev))) continue;
      const name = signOf(event);
      const [kind, ink, r, loud] = SIGNS[name];
      const x = model.scale.xOf(event.u);
      if (x < (last[name] ?? -99) + (loud ? 2 : 1.5)) continue;
      last[name] = x;
      c.fillStyle = c.strokeStyle = this.ink(ink);
      const at = name === "other" ? y + 7 : y;
      shape(c, kind, x, at, lane.kind === "level" ? Math.min(r, 4) : r);
      this.hit(x - Math.max(r, 3), at - Math.max(r, 4), x + Math.max(r, 3), at + Math.max(r, 4), item);
    }
  }

  place(event) {
    const { model } = this;
    const lane = model.laneOf(event);
    const step = model.stepOf.get(event.i);
    const slots = lane.slots ?? 1;
    const inside = step && slots > 1 ? 4 + (step.slot + 0.5) * ((lane.h - 6) / slots) : lane.kind === "node" ? 22 : lane.h / 2 + 1;
    return [model.scale.x(event.t), this.y(lane) + inside];
  }

  related(line) {
    const { hot, model } = this;
    if (!hot) return false;
    const w = hot.what;
    if (hot.type === "event") return line.a === w || line.b === w;
    if (hot.type === "step") return line.b.i === w.notify || line.a.i === w.ack;
    if (hot.type === "round") {
      const of = (e) => e.fields.round === w.name && e.fields.level === w.level;
      return of(line.a) || of(line.b);
    }
    return false;
  }

  drawArrows() {
    const lines = [...Model.seen(this.lines, this.from, this.to)];
    const many = lines.length > ARROWS_MAX;
    const alpha = Math.min(0.8, Math.max(0.14, 130 / (lines.length + 1)));
    this.canvas.dataset.arrows = lines.length;
    for (const line of lines) {
      const related = this.related(line);
      if (!related && (many || this.model.folded.has(line.b.node))) continue;
      this.arrow(line, related, alpha);
    }
  }

  arrow(line, related, alpha) {
    const { c } = this;
    const [x0, y0] = this.place(line.a);
    const [x1, y1] = this.place(line.b);
    if (Math.max(y0, y1) < AXIS || Math.min(y0, y1) > this.h) return;
    c.globalAlpha = related ? 1 : alpha;
    c.strokeStyle = c.fillStyle = this.ink(related ? "--hot" : "--arrow");
    c.lineWidth = related ? 1.6 : 0.9;
    const bend = Math.max(4, Math.min(26, Math.abs(x1 - x0) * 0.45));
    c.beginPath();
    c.moveTo(x0, y0);
    c.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
    c.stroke();
    const angle = Math.atan2(y1 - y0, x1 - x0 + 1) * 0.35;
    arrowhead(c, x1, y1, angle, related ? 7 : 5);
    c.globalAlpha = 1;
  }

  // What was found, and what is pointed at.
  rings() {
    const { c } = this;
    let last = -9;
    let lane;
    c.strokeStyle = this.ink("--find");
    c.lineWidth = 2;
    for (const event of this.found) {
      if (event.t < this.from || event.t > this.to) continue;
      const [x, y] = this.place(event);
      const its = this.model.laneOf(event);
      if (its === lane && x < last + 2) continue;
      [last, lane] = [x, its];
      c.beginPath();
      c.arc(x, y, 7, 0, 7);
      c.stroke();
    }
    const kept = this.kept ?? this.hot;
    if (kept?.type === "event") {
      const [x, y] = this.place(kept.what);
      c.strokeStyle = this.ink("--hot");
      c.beginPath();
      c.arc(x, y, 8.5, 0, 7);
      c.stroke();
    }
  }

  axis() {
    const { c, model, w } = this;
    const { scale } = model;
    c.fillStyle = this.ink("--panel");
    c.fillRect(0, 0, w, AXIS);
    c.fillStyle = this.ink("--line");
    c.fillRect(0, AXIS - 1, w, 1);
    c.save();
    c.beginPath();
    c.rect(GUTTER, 0, w - GUTTER, AXIS);
    c.clip();
    const exact = this.to - this.from < 2e5;
    const apart = exact ? 104 : 88;
    let free = GUTTER;
    const tick = (t, x) => {
      if (x < free || x < GUTTER) return;
      free = x + apart;
      c.fillStyle = this.ink("--dim");
      c.fillRect(x, 4, 1, 16);
      c.fillStyle = this.ink("--text");
      c.fillText(moment(t, exact), x + 5, 12);
    };
    if (scale.squeezed) {
      for (let i = Scale.search(scale.knots, this.from); i < scale.knots.length && scale.knots[i] <= this.to; i++) tick(scale.knots[i], scale.xOf(scale.at[i]));
      this.gaps();
    } else {
      const rough = ((this.to - this.from) / (w - GUTTER)) * (apart + 10);
      const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
      const unit = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? 10 * power;
      for (let t = Math.ceil(this.from / unit) * unit; t <= this.to; t += unit) tick(t, scale.x(t));
    }
    c.fillStyle = this.ink("--find");
    let last = -9;
    for (const event of this.found) {
      const x = scale.x(event.t);
      if (x >= last + 2 && x >= GUTTER) c.fillRect((last = x) - 1, AXIS - 6, 2, 6);
    }
    c.restore();
  }

  // How long the times between events are, where there is room to say it.
  gaps() {
    const { c, model, w } = this;
    const { scale } = model;
    const { knots } = scale;
    const y = 30;
    for (let i = Math.max(Scale.search(knots, this.from), 1); i < knots.length && knots[i - 1] <= this.to; i++) {
      const [x0, x1] = [Math.max(scale.xOf(scale.at[i - 1]), GUTTER), Math.min(scale.xOf(scale.at[i]), w)];
      // Shorter than any label.
      if (x1 - x0 < 36) continue;
      const label = took(knots[i] - knots[i - 1]);
      const wide = c.measureText(label).width;
      if (x1 - x0 < wide + 14) continue;
      const middle = (x0 + x1) / 2;
      c.strokeStyle = this.ink("--line");
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(x0 + 2, y);
      c.lineTo(middle - wide / 2 - 4, y);
      c.moveTo(middle + wide / 2 + 4, y);
      c.lineTo(x1 - 2, y);
      c.stroke();
      c.fillStyle = this.ink("--dim");
      c.fillText(label, middle - wide / 2, y);
    }
  }

  gutter() {
    const { c, model, h } = this;
    c.fillStyle = this.ink("--panel");
    c.fillRect(0, AXIS, GUTTER, h - AXIS);
    c.save();
    c.beginPath();
    c.rect(0, AXIS, GUTTER, h - AXIS);
    c.clip();
    for (const lane of model.lanes) {
      const y = this.y(lane);
      if (y > h || y + lane.h < AXIS) continue;
      c.fillStyle = this.ink(lane.first ? "--line" : "--faint");
      c.fillRect(0, y, GUTTER, 1);
      const middle = y + lane.h / 2 + 1;
      if (lane.kind === "node") {
        c.fillStyle = this.ink("--dim");
        shape(c, model.folded.has(lane.node) ? "right" : "down", 12, middle, 3.2);
        c.font = `600 12.5px ${FONT.slice(FONT.indexOf(" "))}`;
        this.label(lane.label, 22, middle, GUTTER, `--n${lane.node % 8}`);
        c.font = FONT;
      } else this.label(lane.label, lane.kind === "level" ? 34 : 10, middle, GUTTER, lane.kind === "level" ? "--dim" : "--text");
    }
    c.restore();
    c.fillStyle = this.ink("--text");
    c.fillText("time", 10, 13);
    c.fillStyle = this.ink("--line");
    c.fillRect(GUTTER - 1, 0, 1, h);
  }

  // What stands there, nearest to the front.
  at(x, y) {
    if (x < GUTTER || y < AXIS) return null;
    for (let i = this.hits.length - 1; i >= 0; i--) {
      const [x0, y0, x1, y1, item] = this.hits[i];
      if (x >= x0 - 1 && x <= x1 + 1 && y >= y0 && y <= y1) return item;
    }
    return null;
  }

  laneAt(y) {
    return this.model.lanes.find((l) => y >= this.y(l) && y < this.y(l) + l.h);
  }
}
