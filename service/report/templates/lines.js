// Lines over steps.

/**
 * Draw lines. With the arrow keys, or a pointer, the values at one step are read.
 * what: { steps, epochs, series: [{ name, values, number }], low, high, label, tell, height, quiet }
 */
function lineChart(host, what) {
  drawn(host, (width) => paintLines(host, what, width));
}

function paintLines(host, what, width) {
  const { steps, epochs, series } = what;
  const inset = { left: 52, right: 14, top: 10, bottom: what.quiet ? 8 : 40 };
  const height = what.height;
  const first = steps[0];
  const span = steps[steps.length - 1] - first || 1;
  const x = (step) => inset.left + ((step - first) / span) * (width - inset.left - inset.right);
  const y = (value) => inset.top + (1 - (value - what.low) / (what.high - what.low || 1)) * (height - inset.top - inset.bottom);
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": what.label });
  for (const value of what.quiet ? [what.low, what.high] : ticks(what.low, what.high, 5)) {
    svg.append(
      draw("line", { class: "grid", x1: inset.left, x2: width - inset.right, y1: y(value), y2: y(value) }),
      draw("text", { class: "soft tick", x: inset.left - 8, y: y(value) + 4, "text-anchor": "end", "data-value": value }, what.axis(value)),
    );
  }
  if (!what.quiet) {
    for (const step of ticks(first, steps[steps.length - 1], width / 110)) {
      svg.append(draw("text", { class: "soft", x: x(step), y: height - inset.bottom + 18, "text-anchor": "middle" }, plain(step)));
    }
    svg.append(draw("text", { class: "soft", x: width - inset.right, y: height - 4, "text-anchor": "end" }, "step; fine lines begin an epoch"));
  }
  epochs.forEach((epoch, i) => {
    if (i && epoch !== epochs[i - 1]) {
      svg.append(draw("line", { class: "grid", x1: x(steps[i]), x2: x(steps[i]), y1: inset.top, y2: height - inset.bottom }));
    }
  });
  for (const one of series) {
    const line = draw("path", {
      class: "series",
      d: pathOf(steps, one.values, x, y),
      "stroke-dasharray": dash(one.number),
      "data-name": one.name,
    });
    line.style.stroke = colour(one.number);
    svg.append(line);
  }
  const cursor = draw("line", { class: "cursor", y1: inset.top, y2: height - inset.bottom, visibility: "hidden" });
  svg.append(cursor);
  const read = make("p", { class: "read", "aria-live": "polite" });
  host.replaceChildren(svg, read);
  let at = steps.length - 1;
  const show = (number) => {
    at = Math.max(0, Math.min(steps.length - 1, number));
    cursor.setAttribute("x1", x(steps[at]));
    cursor.setAttribute("x2", x(steps[at]));
    cursor.setAttribute("visibility", "visible");
    const values = series.map((one) => `${one.name} ${what.tell(one.values[at])}`).join(" · ");
    read.textContent = `Step ${steps[at]}, epoch ${epochs[at]}: ${values}`;
  };
  svg.addEventListener("pointermove", (event) => {
    const place = event.clientX - svg.getBoundingClientRect().left;
    show(nearest(steps, first + ((place - inset.left) / (width - inset.left - inset.right)) * span));
  });
  svg.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}

/** A line through the values that are numbers; a step without one leaves a gap, one alone becomes a dot. */
function pathOf(steps, values, x, y) {
  let path = "";
  values.forEach((value, i) => {
    if (!isNumber(value)) return;
    const joined = i > 0 && isNumber(values[i - 1]);
    path += `${joined ? "L" : "M"}${x(steps[i]).toFixed(2)} ${y(value).toFixed(2)}`;
    if (!joined && !isNumber(values[i + 1])) path += "h0.01";
  });
  return path;
}

function nearest(steps, wanted) {
  let best = 0;
  steps.forEach((step, i) => {
    if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = i;
  });
  return best;
}

/** Buttons that switch lines on and off; `changed` is told which ones are on. */
function lineLegend(host, names, on, changed) {
  host.replaceChildren(
    ...names.map((name, number) => {
      const button = make("button", { type: "button", "aria-pressed": on.has(number) }, swatch(number), name);
      button.addEventListener("click", () => {
        if (!on.delete(number)) on.add(number);
        button.setAttribute("aria-pressed", on.has(number));
        changed();
      });
      return button;
    }),
  );
}
