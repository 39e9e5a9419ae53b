"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  // The previews of each run, and every count of images that one of them is of.
  const groups = [...document.querySelectorAll("[data-frames]")].map((place) => ({
    images: [...place.querySelectorAll("img")], own: place.querySelector(".own"),
  }));
  const stops = [...new Set(groups.flatMap((group) => group.images.map(made)))].sort((a, b) => a - b);
  const margin = { top: 10, right: 12, bottom: 22, left: 48 };
  const height = 190;
  let axis = "images";
  let logarithmic = false;
  let shown = stops.length - 1;

  function made(image) { return Number(image.dataset.images); }

  // Numbers as people read them.
  function text(value) {
    if (value === null) return "-";
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size >= 1e6 || size < 1e-4) return value.toExponential(1).replace("e+", "e").replace(".0e", "e");
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(size < 10 ? 3 : 4)));
  }

  // Round places on an axis between two values.
  function ticks(low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999) * power;
    const found = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
    return found;
  }

  // The same on a logarithmic axis: round places between them where it spans less than a decade.
  function decades(low, high) {
    const found = [];
    for (let n = Math.floor(Math.log10(low)); n <= Math.ceil(Math.log10(high)); n++) {
      for (const factor of high / low > 30 ? [1] : [1, 2, 5]) {
        const value = Number((factor * 10 ** n).toPrecision(3));
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    }
    return found.length > 1 ? found : ticks(low, high, 3);
  }

  // What a chart needs to know of its vertical axis: the map from values to [0, 1], and where its lines are.
  function vertical(chart) {
    const all = chart.curves.flatMap((curve) => curve.values).concat(chart.lines).filter((value) => value !== null);
    const wanted = chart.scale === "log" || (chart.scale === "switch" && logarithmic);
    const positive = all.filter((value) => value > 0);
    if (wanted && positive.length) {
      let low = Math.min(...positive), high = Math.max(...positive);
      if (high / low < 1.5) { low /= 1.5; high *= 1.5; }
      const span = Math.log(high / low);
      return { at: (value) => (value > 0 ? Math.log(value / low) / span : null), marks: decades(low, high) };
    }
    let low = Math.min(...all), high = Math.max(...all);
    if (chart.scale === "share") { low = 0; high = high > 0.5 ? 1 : high; }
    if (chart.scale === "" && low >= 0 && low < high / 2) low = 0;
    if (!all.length) { low = 0; high = 1; }
    if (high - low < 1e-12 + 1e-9 * Math.abs(high)) { const pad = Math.abs(high) / 2 || 1; low -= low > 0 || low < 0 ? pad : 0; high += pad; }
    if (chart.scale !== "share" || high !== 1) { const pad = (high - low) * 0.05; low -= low === 0 ? 0 : pad; high += pad; }
    return { at: (value) => (value - low) / (high - low), marks: ticks(low, high, 5) };
  }

  function element(name, attributes, parent, content) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (content !== undefined) made.textContent = content;
    parent.append(made);
    return made;
  }

  // Where the rows of a curve lie on the axis at hand.
  function along(curve) { return data.x[curve.run][axis]; }

  function horizontal() {
    const known = data.x.flatMap((run) => run[axis]).filter((value) => value !== null);
    let low = Math.min(...known), high = Math.max(...known);
    if (!known.length) { low = 0; high = 1; }
    if (low > 0 && low < high / 4) low = 0;
    if (low === high) { low = 0; high = high || 1; }
    return { low, high };
  }

  function draw(figure) {
    const chart = data.charts[Number(figure.dataset.chart)];
    const plot = figure.querySelector(".plot");
    const width = Math.max(160, plot.clientWidth);
    const { low, high } = horizontal();
    const y = vertical(chart);
    const inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
    const px = (value) => margin.left + ((value - low) / (high - low)) * inner.width;
    const py = (share) => margin.top + (1 - share) * inner.height;
    plot.replaceChildren();
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, tabindex: "0", "aria-hidden": "true" }, plot);
    for (const value of y.marks) {
      const top = py(y.at(value));
      element("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: top, y2: top }, svg);
      element("text", { x: margin.left - 6, y: top + 4, "text-anchor": "end" }, svg, text(value));
    }
    for (const value of ticks(low, high, Math.max(2, Math.min(6, inner.width / 58)))) {
      const end = px(value) > width - margin.right - 14;
      element("text", { x: px(value), y: height - 6, "text-anchor": end ? "end" : "middle" }, svg, text(value));
    }
    if (stops.length && (axis === "images" || (data.x.length === 1 && data.x[0].images.length))) {
      const place = px(position(stops[shown]));
      if (place >= margin.left && place <= width - margin.right) {
        element("line", { class: "shown", x1: place, x2: place, y1: margin.top, y2: height - margin.bottom }, svg);
      }
    }
    const few = chart.curves.every((curve) => curve.values.length <= 30);
    chart.curves.forEach((curve) => {
      const xs = along(curve);
      let path = "", open = false;
      const alone = [];
      const drawable = (row) => row < xs.length && curve.values[row] !== null && y.at(curve.values[row]) !== null && xs[row] !== null;
      curve.values.forEach((value, row) => {
        if (!drawable(row)) { open = false; return; }
        const point = `${px(xs[row]).toFixed(1)} ${py(y.at(value)).toFixed(1)}`;
        path += (open ? "L" : "M") + point;
        // A value between two gaps has no line to show it.
        if (!open && !drawable(row + 1)) alone.push(point);
        open = true;
      });
      if (path) element("path", { class: `curve ${colour(curve)}`, d: path }, svg);
      const marked = few ? path.split(/[ML]/).filter(Boolean) : alone;
      for (const point of marked) {
        const [cx, cy] = point.split(" ");
        element("circle", { class: `dot ${colour(curve)}`, cx, cy, r: 2.2 }, svg);
      }
    });
    for (const [index, value] of chart.lines.entries()) {
      const share = y.at(value);
      if (share === null) continue;
      element("line", { class: "level", x1: margin.left, x2: width - margin.right, y1: py(share), y2: py(share) }, svg);
      element("text", { x: width - margin.right, y: py(share) - 4, "text-anchor": "end" }, svg, ["equilibrium", chart.owners[index], text(value)].filter(Boolean).join(" "));
    }
    const cursor = element("line", { class: "at", y1: margin.top, y2: height - margin.bottom, visibility: "hidden" }, svg);
    const places = [...new Set(chart.curves.flatMap(along))].filter((value) => value !== null).sort((a, b) => a - b);
    let at = places.length - 1;
    const point = (to) => {
      if (!places.length) return;
      at = Math.max(0, Math.min(places.length - 1, to));
      for (const side of ["x1", "x2"]) cursor.setAttribute(side, px(places[at]));
      cursor.setAttribute("visibility", "visible");
      legend(figure, chart, places[at]);
    };
    const leave = () => { cursor.setAttribute("visibility", "hidden"); legend(figure, chart, null); };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const wanted = low + (((event.clientX - box.left) * width) / box.width - margin.left) / inner.width * (high - low);
      point(nearest(places, wanted));
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -places.length, End: places.length }[event.key];
      if (move) { event.preventDefault(); point(at + move); }
    });
    legend(figure, chart, null);
  }

  function nearest(xs, wanted) {
    let best = 0;
    xs.forEach((value, row) => {
      if (value !== null && (xs[best] === null || Math.abs(value - wanted) < Math.abs(xs[best] - wanted))) best = row;
    });
    return best;
  }

  // Where so many images lie on the axis at hand.
  function position(count) {
    return axis === "images" ? count : count === 0 ? 0 : data.x[0][axis][nearest(data.x[0].images, count)];
  }

  // Values at a place on the axis, or where the curves end.
  function legend(figure, chart, at) {
    const place = figure.querySelector(".legend");
    place.replaceChildren();
    if (at !== null) {
      const told = document.createElement("span");
      told.textContent = `${text(at)} ${axis}:`;
      place.append(told);
    }
    for (const curve of chart.curves) {
      const xs = along(curve);
      const ended = at !== null && !xs.some((value) => value !== null && value >= at);
      const row = at === null ? xs.length - 1 : nearest(xs, at);
      const entry = document.createElement("span");
      const key = document.createElement("i");
      key.className = colour(curve);
      entry.append(key, `${curve.name} ${text(ended || !xs.length ? null : curve.values[row])}`);
      place.append(entry);
    }
  }

  function colour(curve) { return `s${curve.colour % 6}${curve.colour < 6 ? "" : " dashed"}`; }

  function after(count) { return `after ${count.toLocaleString("en")} images`; }

  function redraw() { figures.forEach(draw); }

  function show(index) {
    shown = index;
    for (const { images, own } of groups) {
      if (!images.length) continue;
      const best = images[nearest(images.map(made), stops[index])];
      for (const image of images) image.hidden = image !== best;
      if (own) own.textContent = after(made(best));
    }
    const told = after(stops[index]);
    byId("frame").value = String(index);
    byId("frame").setAttribute("aria-valuetext", told);
    byId("shown").textContent = told;
    redraw();
  }

  if (stops.length) {
    const player = byId("player"), play = byId("play"), enlarge = byId("enlarge");
    let timer = 0;
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
    player.hidden = false;
    play.disabled = byId("frame").disabled = stops.length < 2;
    byId("frame").addEventListener("input", (event) => { stop(); show(Number(event.target.value)); });
    play.addEventListener("click", () => {
      if (timer) { stop(); return; }
      play.textContent = "Pause";
      if (shown === stops.length - 1) show(0);
      timer = setInterval(() => { if (shown < stops.length - 1) show(shown + 1); else stop(); }, 450);
    });
    enlarge.addEventListener("click", () => {
      const large = byId("frames").classList.toggle("large");
      enlarge.setAttribute("aria-pressed", String(large));
      enlarge.textContent = large ? "Shrink" : "Enlarge";
      redraw();
    });
  }
  if (figures.length) {
    byId("controls").hidden = false;
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("log").addEventListener("change", (event) => { logarithmic = event.target.checked; redraw(); });
    byId("axis").addEventListener("change", (event) => { axis = event.target.value; redraw(); });
  }
  // Also once a browser has restored the form of an earlier visit.
  window.addEventListener("pageshow", () => {
    if (figures.length) { logarithmic = byId("log").checked; axis = byId("axis").value; }
    if (stops.length) show(Number(byId("frame").value)); else redraw();
  });
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth !== width) { width = document.body.clientWidth; redraw(); }
  }).observe(document.body);
})();
