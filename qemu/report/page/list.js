// The list of events: only the rows that can be seen are there.

const ROW = 22;
const BAD = new Set(["panic", "overdue", "refuse"]);

class List {
  constructor(box, spacer, rows, model, pick) {
    Object.assign(this, { box, spacer, rows, model, pick });
    this.shown = model.events;
    this.kept = null;
    box.addEventListener("scroll", () => this.draw());
    rows.addEventListener("click", (e) => {
      const row = e.target.closest(".row");
      if (row) this.pick(this.model.events[Number(row.dataset.i)]);
    });
  }

  filter(events) {
    this.shown = events ?? this.model.events;
    this.spacer.style.height = `${this.shown.length * ROW}px`;
    this.box.scrollTop = 0;
    this.draw();
  }

  keep(event, scroll) {
    this.kept = event;
    const at = this.shown.indexOf(event);
    const top = at * ROW;
    if (scroll && at >= 0 && (top < this.box.scrollTop || top > this.box.scrollTop + this.box.clientHeight - ROW)) {
      this.box.scrollTop = top - this.box.clientHeight / 2;
    }
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - 3);
    const some = this.shown.slice(first, first + Math.ceil(this.box.clientHeight / ROW) + 8);
    this.rows.style.top = `${first * ROW}px`;
    this.rows.replaceChildren(...some.map((e, k) => this.row(e, this.shown[first + k - 1])));
  }

  row(event, before) {
    const row = document.createElement("div");
    row.className = "row";
    row.dataset.i = event.i;
    if (event === this.kept) row.classList.add("kept");
    if (BAD.has(event.ev) || event.fields.ok === false) row.classList.add("bad");
    const cell = (text, name) => {
      const span = document.createElement("span");
      span.className = name;
      span.textContent = text;
      row.append(span);
    };
    cell(moment(event.t, true), "t");
    cell(before ? `+${took(event.t - before.t)}` : "", "d");
    cell(event.node === null ? "" : event.node, event.node === null ? "" : `n${event.node % 8}`);
    cell(event.ev, "ev");
    cell(this.model.textOf(event), "what");
    row.title = `${event.ev} ${this.model.textOf(event)}`;
    return row;
  }
}
