// Rows with marks between 0 and 100 %.

/**
 * Draw one row a component.
 * rows: [{ name, note, marks: [{ value, kind: "ring" | "disc" | "dot", number, offset, low, high }], from, to }]
 */
function markChart(host, rows, label) {
  if (!rows.length) return nothing(host, "There is nothing to draw.");
  drawn(host, (width) => paintMarks(host, rows, label, width));
}

function paintMarks(host, rows, label, width) {
  const narrow = width < 560;
  const left = narrow ? 14 : Math.min(300, 30 + 7 * Math.max(...rows.map((row) => row.name.length)));
  const tall = Math.max(narrow ? 46 : 30, ...rows.map((row) => (narrow ? 24 : 0) + row.space));
  const right = 26;
  const height = rows.length * tall + 26;
  const x = (value) => left + value * (width - left - right);
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      draw("line", { class: "grid", x1: x(value), x2: x(value), y1: 0, y2: height - 22 }),
      draw("text", { class: "soft", x: x(value), y: height - 6, "text-anchor": "middle" }, `${100 * value}\u2009%`),
    );
  }
  rows.forEach((row, i) => {
    const top = i * tall;
    const middle = narrow ? top + 20 + (tall - 20) / 2 : top + tall / 2;
    const name = row.note ? `${row.name}  ${row.note}` : row.name;
    const spot = narrow ? { x: left, y: top + 16 } : { x: left - 14, y: middle + 4, "text-anchor": "end" };
    svg.append(draw("text", spot, fitted(narrow ? name : row.name, narrow ? width - left : left - 20), draw("title", {}, name)));
    for (const mark of row.marks) {
      const y = middle + (mark.offset || 0);
      if (isNumber(mark.low)) {
        const bar = draw("line", { x1: x(Math.max(0, mark.low)), x2: x(Math.min(1, mark.high)), y1: y, y2: y, "stroke-width": mark.kind === "span" ? 2 : 3 });
        bar.style.stroke = colour(mark.number);
        svg.append(bar);
      }
      if (mark.kind === "span") continue;
      const circle = draw("circle", { cx: x(mark.value), cy: y, r: mark.kind === "dot" ? 2 : 5.5, "stroke-width": 2, class: mark.kind, "data-name": row.name, "data-value": mark.value });
      circle.style.stroke = colour(mark.number);
      circle.style.fill = mark.kind === "ring" ? "var(--ground)" : colour(mark.number);
      circle.append(draw("title", {}, `${row.name}: ${mark.told}`));
      svg.append(circle);
    }
  });
  host.replaceChildren(svg);
}

/** A text cut to about so many pixels. */
function fitted(text, pixels) {
  const most = Math.max(4, Math.floor(pixels / 6.6));
  return text.length <= most ? text : `…${text.slice(text.length - most + 1)}`;
}
