// Puts it together: pointer, keys, search, the list of events, links from the tables. What is shown can be kept in the
// address: `#q=fence&from=1200000&to=1400000` (times in µs).

(() => {
  const root = document.documentElement;
  addEventListener("error", (e) => (root.dataset.error = e.message));
  addEventListener("unhandledrejection", (e) => (root.dataset.error = String(e.reason)));
  const $ = (id) => document.getElementById(id);
  const model = new Model(JSON.parse($("data").textContent));
  const { scale } = model;
  const chart = new Chart(model, $("canvas"), $("chart"), $("chart-height"));
  const canvas = $("canvas");
  const list = new List($("list"), $("list-height"), $("rows"), model, (e) => keep({ type: "event", from: e.t, to: e.t, what: e }, true));
  const hint = $("detail").innerHTML;

  const element = (name, text, parent, className) => {
    const e = document.createElement(name);
    e.textContent = text;
    if (className) e.className = className;
    parent.append(e);
    return e;
  };

  function tell(box, item, apart) {
    const [title, lines] = model.describe(item);
    box.replaceChildren();
    element("b", title, box);
    for (const [name, value] of lines) {
      if (value === "" || value === undefined) continue;
      if (apart) box.append(document.createElement("br"));
      else box.append("   ");
      if (name) box.append(`${name} `);
      element(apart ? "span" : "code", String(value), box).style.color = "var(--text)";
    }
  }

  function keep(item, show) {
    chart.kept = item;
    chart.hot = item;
    if (item) tell($("detail"), item, false);
    else $("detail").innerHTML = hint;
    if (item?.type === "event") list.keep(item.what, !show);
    if (item && show) {
      scale.focus(item.from, item.to);
      const lane = item.type === "event" ? model.laneOf(item.what) : null;
      if (lane) {
        const y = chart.y(lane);
        if (y < AXIS || y + lane.h > chart.h) $("chart").scrollTop = lane.y - chart.h / 2 + AXIS;
      }
    }
    chart.soon();
  }

  function point(event, item) {
    const tip = $("tip");
    chart.canvas.style.cursor = item ? "pointer" : "";
    if (item !== chart.hot && !(item === null && chart.hot === chart.kept)) {
      chart.hot = item ?? chart.kept;
      chart.soon();
    }
    tip.hidden = !item;
    if (!item) return;
    tell(tip, item, true);
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 6)}px`;
    tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? Math.max(event.clientY - box.height - 10, 4) : event.clientY + 18}px`;
  }

  let drag = null;
  const inside = (e) => {
    const box = canvas.getBoundingClientRect();
    return [e.clientX - box.left, e.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (e) => {
    const [x, y] = inside(e);
    if (e.button !== 0) return;
    drag = { x, y, x0: x, moved: false, range: e.shiftKey && x > GUTTER };
    // A test's pointer is none that can be held.
    if (e.isTrusted) canvas.setPointerCapture(e.pointerId);
  });
  canvas.addEventListener("pointermove", (e) => {
    const [x, y] = inside(e);
    if (!drag) return point(e, chart.at(x, y));
    drag.moved ||= Math.abs(x - drag.x0) > 3 || Math.abs(y - drag.y) > 3;
    if (!drag.moved) return;
    $("tip").hidden = true;
    if (drag.range) {
      chart.draw();
      chart.c.fillStyle = chart.ink("--joining-ink");
      chart.c.globalAlpha = 0.2;
      chart.c.fillRect(Math.min(x, drag.x0), 0, Math.abs(x - drag.x0), chart.h);
      chart.c.globalAlpha = 1;
    } else {
      canvas.classList.add("dragging");
      scale.move(drag.x - x);
      $("chart").scrollTop += drag.y - y;
      chart.soon();
    }
    [drag.x, drag.y] = drag.range ? [drag.x, drag.y] : [x, y];
  });
  const release = (e) => {
    if (!drag) return;
    const [x, y] = inside(e);
    canvas.classList.remove("dragging");
    const { moved, range, x0 } = drag;
    drag = null;
    if (moved && range) {
      const [a, b] = [Math.min(x, x0), Math.max(x, x0)].map((p) => scale.left + ((p - GUTTER) / scale.width) * (scale.right - scale.left));
      scale.show(a, b);
      chart.soon();
    } else if (!moved) {
      const lane = chart.laneAt(y);
      if (x < GUTTER && lane?.kind === "node") fold(lane.node);
      else keep(chart.at(x, y), false);
    }
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("pointerleave", (e) => !drag && point(e, null));
  canvas.addEventListener("dblclick", (e) => zoom(0.4, inside(e)[0]));
  canvas.addEventListener("wheel", (e) => {
    const [x] = inside(e);
    const unit = e.deltaMode === 1 ? 16 : 1;
    // Over the names the wheel scrolls, as anywhere else.
    if (x < GUTTER) return;
    e.preventDefault();
    if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) scale.move((e.deltaX || e.deltaY) * unit);
    else scale.zoom(Math.exp(e.deltaY * unit * 0.0016), x);
    point(e, null);
    chart.soon();
  }, { passive: false });
  $("chart").addEventListener("scroll", () => chart.soon());

  function zoom(factor, x) {
    scale.zoom(factor, x ?? GUTTER + scale.width / 2);
    chart.soon();
  }
  function all() {
    scale.show(scale.low, scale.high);
    chart.soon();
  }
  function fold(node) {
    if (!model.folded.delete(node)) model.folded.add(node);
    model.build();
    chart.size();
  }
  function squeeze(on) {
    const [from, to] = [chart.from, chart.to];
    scale.squeezed = on;
    scale.place();
    model.measure();
    if (from > model.from_us || to < model.to_us) scale.show(scale.unit(from), scale.unit(to));
    $("squeeze").checked = on;
    chart.soon();
  }
  function flip(name) {
    chart[name] = !chart[name];
    $(name).checked = chart[name];
    chart.soon();
  }

  let place = -1;
  function search(query) {
    chart.found = model.search(query);
    place = -1;
    const n = chart.found.length;
    $("found").textContent = query.trim() ? (n ? `${n} found` : "nothing found") : "";
    root.dataset.found = n;
    list.filter(query.trim() ? chart.found : null);
    $("events-count").textContent = query.trim() ? `${n} of ${model.events.length}` : `${model.events.length}`;
    chart.soon();
  }
  function next(by) {
    const n = chart.found.length;
    if (!n) return;
    place = (place + by + n) % n;
    if (place < 0) place = n - 1;
    const e = chart.found[place];
    $("found").textContent = `${place + 1} of ${n}`;
    keep({ type: "event", from: e.t, to: e.t, what: e }, true);
  }

  $("zoom-in").onclick = () => zoom(0.5);
  $("zoom-out").onclick = () => zoom(2);
  $("zoom-all").onclick = all;
  $("squeeze").onchange = (e) => squeeze(e.target.checked);
  $("arrows").onchange = () => flip("arrows");
  $("disk").onchange = () => flip("disk");
  $("search").oninput = (e) => search(e.target.value);
  $("search").onkeydown = (e) => {
    if (e.key === "Enter") next(e.shiftKey ? -1 : 1);
    if (e.key === "Escape") {
      e.target.value = "";
      search("");
      e.target.blur();
    }
    e.stopPropagation();
  };
  $("help-button").onclick = () => help();
  function help() {
    const box = $("help");
    box.hidden = !box.hidden;
    $("help-button").setAttribute("aria-expanded", String(!box.hidden));
    if (box.childElementCount) return;
    const keys = [["+ −  wheel", "zoom"], ["← → ↑ ↓  drag", "move"], ["Shift-drag", "zoom into a range"], ["0", "the whole run"], ["f", "fit to what is kept"], ["/", "search"], ["n  p", "next, previous found"], ["t", "squeeze idle time"], ["a  d", "arrows, disk"], ["Esc", "keep nothing"], ["a node's name", "fold its levels"]];
    for (const [key, what] of keys) {
      const line = element("div", "", box);
      element("kbd", key, element("span", "", line));
      element("span", what, line);
    }
    for (const [name, [kind, ink, r, , what]] of Object.entries(SIGNS)) {
      const line = element("div", "", box);
      const sign = document.createElement("canvas");
      [sign.width, sign.height] = [18, 18];
      const c = sign.getContext("2d");
      c.fillStyle = c.strokeStyle = chart.ink(ink);
      shape(c, kind, 9, 9, r);
      const first = element("span", "", line);
      first.append(sign, ` ${name}`);
      element("span", what, line);
    }
  }

  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input[type=search]")) return;
    const box = $("chart");
    const keys = {
      "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "0": all,
      ArrowLeft: () => (scale.move(-scale.width * 0.12), chart.soon()),
      ArrowRight: () => (scale.move(scale.width * 0.12), chart.soon()),
      "/": () => $("search").focus(), n: () => next(1), p: () => next(-1), N: () => next(-1),
      f: () => chart.kept && (scale.focus(chart.kept.from, chart.kept.to), chart.soon()),
      t: () => squeeze(!scale.squeezed), a: () => flip("arrows"), d: () => flip("disk"), "?": help,
      Escape: () => keep(null, false),
    };
    if (e.target === canvas) {
      keys.ArrowUp = () => (box.scrollTop -= 60);
      keys.ArrowDown = () => (box.scrollTop += 60);
    }
    const act = keys[e.key];
    if (!act) return;
    e.preventDefault();
    act();
  });

  document.addEventListener("click", (e) => {
    const link = e.target.closest("a[data-from]");
    if (!link) return;
    e.preventDefault();
    scale.focus(Number(link.dataset.from), Number(link.dataset.to));
    chart.soon();
    $("chart-section").scrollIntoView({ block: "start", behavior: "smooth" });
  });

  function address() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.get("linear")) squeeze(false);
    if (wanted.has("from")) scale.show(scale.unit(Number(wanted.get("from"))), scale.unit(Number(wanted.get("to"))));
    if (wanted.has("q")) {
      $("search").value = wanted.get("q");
      search(wanted.get("q"));
      if (wanted.has("next")) next(1);
    }
    if (wanted.get("help")) help();
    chart.soon();
  }

  search("");
  new ResizeObserver(() => chart.size()).observe($("chart-section"));
  chart.size();
  address();
  addEventListener("hashchange", address);
  const begun = performance.now();
  chart.draw();
  const drawMs = (performance.now() - begun).toFixed(1);
  Object.assign(root.dataset, { drawMs, ready: "1", events: model.events.length, lanes: model.lanes.length });
})();
