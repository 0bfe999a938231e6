// What stands in which lane: the harness, the masters, then for each node a lane of its own and a row per level.

const KIND_INK = { joining: "--joining-ink", leaving: "--leaving-ink", "forced-leaving": "--forced-ink" };
const STATE_BACK = { joined: "--joined", joining: "--joining", leaving: "--leaving", "forced-leaving": "--forced" };
const QUIET = new Set(["lease", "shared_write"]);

function text(value) {
  if (Array.isArray(value)) return value.map(text).join(" ");
  if (value !== null && typeof value === "object") {
    return Object.entries(value).map(([k, v]) => `${k}:${text(v)}`).join(" ");
  }
  return String(value);
}

class Model {
  constructor(data) {
    Object.assign(this, data.timeline);
    this.title = data.title;
    this.events = data.events.map(([t, node, inc, lc, kind, fields], i) => ({ i, t, node, inc, lc, ev: data.kinds[kind], fields }));
    this.levelName = new Map(this.levels.map((l) => [l.order, l.name]));
    this.stepOf = new Map();
    for (const s of this.steps) {
      this.stepOf.set(s.notify, s);
      if (s.ack !== null) this.stepOf.set(s.ack, s);
    }
    this.roundOf = new Map(this.rounds.map((r) => [`${r.level} ${r.name}`, r]));
    this.arrowsOf = new Map();
    const link = (e, a) => (this.arrowsOf.get(e) ?? this.arrowsOf.set(e, []).get(e)).push(a);
    for (const a of this.arrows) {
      link(a[0], a);
      link(a[1], a);
    }
    this.scale = new Scale(this.events.filter((e) => !QUIET.has(e.ev)).map((e) => e.t), this.from_us, this.to_us);
    this.folded = new Set(this.nodes.length > 8 ? this.nodes : []);
    this.measure();
    this.texts = null;
    this.slots = new Map();
    for (const s of this.steps) {
      const key = `${s.node} ${s.level}`;
      this.slots.set(key, Math.max(this.slots.get(key) ?? 1, s.slot + 1));
    }
    this.build();
  }

  // Where each event stands, looked up once for a scale.
  measure() {
    for (const e of this.events) e.u = this.scale.unit(e.t);
  }

  build() {
    this.lanes = [];
    let y = 0;
    const add = (lane) => {
      lane.y = y;
      y += lane.h;
      this.lanes.push(Object.assign(lane, { bars: [], marks: [], backs: [], tops: [] }));
      return lane;
    };
    this.harness = add({ kind: "harness", label: "harness", h: 34 });
    this.masters = add({ kind: "master", label: "master", h: 24 });
    this.byNode = new Map();
    for (const node of this.nodes) {
      const own = add({ kind: "node", node, label: `node ${node}`, h: 31, first: true });
      const rows = new Map();
      for (const level of this.folded.has(node) ? [] : this.levels_of[node] ?? []) {
        // Transitions that overlap stand under each other.
        const more = Math.min((this.slots.get(`${node} ${level}`) ?? 1) - 1, 4);
        rows.set(level, add({ kind: "level", node, level, label: `${level} ${this.levelName.get(level) ?? ""}`, h: 18 + more * 8 }));
      }
      this.byNode.set(node, { own, rows });
    }
    this.height = y + 6;
    this.fill();
  }

  laneOf(event) {
    if (event.node === null) return this.harness;
    const at = this.byNode.get(event.node);
    const level = event.fields.level;
    return level === undefined || level === null || event.ev === "register" ? at.own : at.rows.get(level) ?? at.own;
  }

  fill() {
    for (const s of this.stays) {
      const at = this.byNode.get(s.subject);
      const lane = s.level === null ? at?.own : at?.rows.get(s.level);
      lane?.backs.push({ from: s.from_us, to: s.to_us, colour: STATE_BACK[s.is], what: s, type: "stay" });
    }
    for (const t of this.terms) {
      this.masters.bars.push({ from: t.from_us, to: t.to_us, colour: `--n${t.node % 8}`, label: `node ${t.node}`, what: t, type: "term" });
      this.byNode.get(t.node)?.own.tops.push({ from: t.from_us, to: t.to_us, colour: "--master", what: t, type: "term" });
    }
    for (const s of this.spells) {
      const colour = { frozen: "--frozen", paused: "--paused", fence: "--fence" }[s.kind];
      const ink = { frozen: "--frozen-ink", paused: "--dim", fence: "--fence-ink" }[s.kind];
      this.byNode.get(s.node)?.own.bars.push({ from: s.from_us, to: s.to_us, colour, ink, label: s.kind === "fence" ? `fence ${s.what}` : s.what === "freeze" ? "clock stopped" : s.kind, what: s, type: "spell" });
    }
    for (const r of this.rounds) {
      const lane = this.byNode.get(r.issued[0]?.[1])?.rows.get(r.level);
      lane?.tops.push({ from: r.from_us, to: r.to_us, colour: KIND_INK[r.transitions[0]?.[2]] ?? "--dim", what: r, type: "round" });
    }
    for (const s of this.steps) {
      const at = this.byNode.get(s.node);
      const lane = at?.rows.get(s.level) ?? at?.own;
      if (lane) lane.slots = Math.max(lane.slots ?? 1, s.slot + 1);
      lane?.bars.push({ from: s.from_us, to: s.to_us, colour: KIND_INK[s.transition] ?? "--dim", label: `${s.subject} ${s.transition}`, what: s, type: "step", slot: s.slot });
    }
    for (const f of this.faults) {
      const label = `${f.verb}${f.nodes.length ? ` ${f.nodes.join(" ")}` : ""}`;
      const colour = f.kind === "fault" ? "--forced-ink" : f.kind === "repair" ? "--joined-ink" : "--dim";
      this.harness.bars.push({ from: f.from_us, to: f.to_us, colour, label, what: f, type: "fault" });
    }
    for (const e of this.events) {
      if (e.ev === "step") continue;
      this.laneOf(e).marks.push({ from: e.t, to: e.t, what: e, type: "event" });
    }
    for (const lane of this.lanes) {
      for (const list of [lane.backs, lane.bars, lane.tops]) {
        list.sort((a, b) => a.from - b.from);
        // The latest end so far: from where on a list must be looked at.
        let latest = -Infinity;
        list.latest = list.map((item) => (latest = Math.max(latest, item.to)));
      }
    }
  }

  // What of a sorted list can be seen between two times.
  static *seen(list, from, to) {
    for (let i = Scale.search(list.latest, from); i < list.length && list[i].from <= to; i++) {
      if (list[i].to >= from) yield list[i];
    }
  }

  static *between(marks, from, to) {
    let low = 0;
    let high = marks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (marks[middle].from < from) low = middle + 1;
      else high = middle;
    }
    for (let i = low; i < marks.length && marks[i].from <= to; i++) yield marks[i];
  }

  textOf(event) {
    return Object.entries(event.fields).map(([k, v]) => `${k} ${text(v)}`).join("  ");
  }

  // Events with all the words: each a name, a field, a value, or `node N`.
  search(query) {
    this.texts ??= this.events.map((e) => `${e.ev} ${e.node === null ? "harness" : `node ${e.node}`} ${this.textOf(e)} `.toLowerCase());
    const wanted = query.toLowerCase().trim().replace(/\bnode (\d+)/g, "node\u0000$1").split(/\s+/).filter(Boolean);
    const words = wanted.map((w) => (w.includes("\u0000") ? `${w.replace("\u0000", " ")} ` : w));
    return words.length ? this.events.filter((e) => words.every((w) => this.texts[e.i].includes(w))) : [];
  }

  // What is told of anything that can be pointed at: title, then lines of name and value.
  describe(item) {
    const w = item.what;
    const level = (order) => (order === null || order === undefined ? "" : `${order} ${this.levelName.get(order) ?? ""}`);
    const span = ["time", `${moment(item.from, true)} – ${moment(item.to, true)}, ${took(item.to - item.from)}`];
    switch (item.type) {
      case "event": {
        const s = this.stepOf.get(w.i);
        const lines = [["time", moment(w.t, true)], ...Object.entries(w.fields).map(([k, v]) => [k, text(v)])];
        if (w.inc !== null) lines.push(["incarnation", w.inc]);
        if (w.lc !== null) lines.push(["Lamport clock", w.lc]);
        if (s) lines.push(["acknowledged", s.end === "acked" ? `after ${took(s.to_us - s.from_us)}` : s.end]);
        return [`${w.ev}, ${w.node === null ? "harness" : `node ${w.node}`}`, lines];
      }
      case "step": {
        const end = { acked: "acknowledged", stale: "acknowledged too late", lost: "never acknowledged: the node ended, or was told anew", open: "not acknowledged when the trace ends" }[w.end];
        return [`node ${w.node} is told: node ${w.subject} ${w.transition}`, [["level", level(w.level)], ["round", `${w.round}, barrier ${w.barrier}`], ["subject", `node ${w.subject}, incarnation ${w.subject_inc}`], span, ["", end]]];
      }
      case "round":
        return [`round ${w.name}: ${w.transitions.map(([n, , k]) => `node ${n} ${k}`).join(", ")}`, [["level", level(w.level)], ["master", w.issued.map(([, n]) => `node ${n}`).join(", again by ")], ["participants", w.participants.join(" ")], span, ["", w.end]]];
      case "term":
        return [`master: node ${w.node}`, [["ballot", w.ballot], span, ["until", { open: "the trace ends", ended: "its life ended", overtaken: "another took over" }[w.end] ?? w.end]]];
      case "stay":
        return [`node ${w.subject} ${w.is}`, [...(w.level === null ? [] : [["level", level(w.level)]]), ["incarnation", w.inc], span]];
      case "spell":
        return [`node ${w.node}: ${w.kind}`, [["", w.what], span]];
      case "fault":
        return [`${w.kind === "fault" ? "fault injected" : "harness"}: ${w.verb}`, [["nodes", w.nodes.join(" ") || "–"], ["", w.what], item.to > item.from ? span : ["time", moment(item.from, true)]]];
      case "life":
        return [`node ${w.node}, incarnation ${w.inc ?? "–"}`, [span, ["end", `${w.end}${w.reason ? `: ${w.reason}` : ""}`]]];
    }
    return ["", []];
  }
}
