// The component graph with the routes of one step over it.

const WIDEST = 14;
const BESIDE = 4;

/** Draw the graph once; the function that comes back shows another step. */
function componentGraph(host, run, told) {
  let shown = run.steps.length - 1;
  let parts = null;
  const show = (at) => {
    shown = at;
    if (parts) showStep(parts, run, at);
    told(at);
  };
  drawn(host, (width) => {
    parts = paintGraph(host, run.graph, width);
    showStep(parts, run, shown);
  });
  return show;
}

function paintGraph(host, graph, width) {
  const [layers, rows] = graph.size;
  const across = width >= layers * 128; // from left to right where there is room, else downwards
  const box = across
    ? { width: Math.min(150, width / layers - 28), height: 42 }
    : { width: Math.max(64, Math.min(150, width / rows - 14)), height: 42 };
  const pace = across
    ? { layer: width / layers, row: Math.max(62, Math.min(84, 420 / rows)) }
    : { layer: layers > 14 ? 62 : 78, row: Math.max(box.width + 12, width / rows) };
  const total = across
    ? { width, height: rows * pace.row + 44 }
    : { width: Math.max(width, rows * pace.row), height: layers * pace.layer };
  const spot = ([layer, row]) =>
    across
      ? [(layer + 0.5) * pace.layer, (row + 0.5) * pace.row + 22]
      : [(row + 0.5) * pace.row + (total.width - rows * pace.row) / 2, (layer + 0.5) * pace.layer];
  const svg = draw("svg", { width: total.width, height: total.height, viewBox: `0 0 ${total.width} ${total.height}`, role: "img" });
  const lines = graph.ways.map((way, i) => {
    const points = graph.lines[i].map(spot);
    return way[0] < way[1] ? bent(points, across, box) : around(points, across, box, graph.size, pace);
  });
  const ways = graph.ways.map(([a, b], i) => {
    const path = draw("path", { class: "way", d: lines[i](0), "data-source": graph.nodes[a], "data-target": graph.nodes[b] });
    path.append(draw("title", {}));
    svg.append(path);
    return path;
  });
  const over = draw("g");
  svg.append(over);
  const nodes = graph.nodes.map((name, i) => {
    const [x, y] = spot(graph.places[i]);
    const bar = draw("rect", { class: "bar", x: x - box.width / 2 + 6, y: y + 11, width: 0, height: 5 });
    const title = draw("title", {});
    const node = draw(
      "g",
      { class: "node", "data-name": name },
      draw("rect", { class: "box", x: x - box.width / 2, y: y - box.height / 2, width: box.width, height: box.height, rx: 6 }),
      draw("text", { x, y: y - 1, "text-anchor": "middle", class: box.width < 90 ? "small" : null }, lastParts(name, box.width - 6)),
      draw("rect", { class: "track", x: x - box.width / 2 + 6, y: y + 11, width: box.width - 12, height: 5 }),
      bar,
      title,
    );
    svg.append(node);
    return { node, bar, title, name };
  });
  host.replaceChildren(svg);
  return { svg, ways, over, nodes, lines, full: box.width - 12 };
}

function showStep(parts, run, at) {
  const { graph, routes } = run;
  graph.ways.forEach((way, i) => {
    const share = graph.shares[at][i];
    const path = parts.ways[i];
    path.setAttribute("stroke-width", (0.75 + WIDEST * Math.min(1, share)).toFixed(3));
    path.setAttribute("data-share", share);
    path.firstChild.textContent = `${graph.nodes[way[0]]} to ${graph.nodes[way[1]]}: ${percent(share)} of the mass`;
  });
  const crossed = new Set();
  const drawnRoutes = [];
  routes.at[at].forEach(([number, share], rank) => {
    routes.ways[number].forEach(([a, b]) => {
      crossed.add(a).add(b);
      const way = graph.ways.findIndex((w) => w[0] === a && w[1] === b);
      if (way < 0) return;
      const shift = (rank - (routes.at[at].length - 1) / 2) * BESIDE;
      const path = draw("path", { class: "route", d: parts.lines[way](shift), "stroke-dasharray": dash(rank), "data-route": number, "data-share": share, "data-source": graph.nodes[a], "data-target": graph.nodes[b] });
      path.style.stroke = colour(rank);
      drawnRoutes.unshift(path);
    });
  });
  parts.over.replaceChildren(...drawnRoutes);
  parts.nodes.forEach(({ node, bar, title, name }, i) => {
    const place = run.components.indexOf(name);
    const share = place < 0 ? null : run.share[place][at];
    node.classList.toggle("crossed", crossed.has(i));
    bar.setAttribute("width", (parts.full * (share || 0)).toFixed(2));
    node.setAttribute("data-share", share === null ? "" : share);
    title.textContent = share === null ? name : `${name}: share ${percent(share)}`;
  });
  const said = routes.at[at].slice(0, 1).map(([n, share]) => ` The busiest route, ${routes.texts[n]}, carries ${percent(share)}.`);
  parts.svg.setAttribute("aria-label", `${graph.nodes.length} components and ${graph.ways.length} ways at step ${run.steps[at]}.${said.join("")}`);
}

/** As many of the last parts of a dotted name as fit. */
function lastParts(name, pixels) {
  const most = Math.floor(pixels / (pixels < 84 ? 5.7 : 6.6));
  if (name.length <= most) return name;
  const parts = name.split(".");
  for (let i = 1; i < parts.length; i += 1) {
    const rest = parts.slice(i).join(".");
    if (rest.length < most) return `…${rest}`;
  }
  const last = parts[parts.length - 1];
  return last.length <= most ? last : `${last.slice(0, Math.max(2, most - 1))}…`;
}

/** A smooth line through places that lie in one layer after the other; shifted sideways by so many pixels. */
function bent(points, across, box) {
  return (shift) => {
    const moved = points.map(([x, y]) => (across ? [x, y + shift] : [x + shift, y]));
    const half = across ? box.width / 2 : box.height / 2;
    let [x, y] = across ? [moved[0][0] + half, moved[0][1]] : [moved[0][0], moved[0][1] + half];
    let path = `M${x.toFixed(1)} ${y.toFixed(1)}`;
    moved.slice(1).forEach(([nextX, nextY], i) => {
      const last = i === moved.length - 2;
      const [toX, toY] = last ? (across ? [nextX - half, nextY] : [nextX, nextY - half]) : [nextX, nextY];
      const [cx, cy] = [(x + toX) / 2, (y + toY) / 2];
      path += across
        ? `C${cx.toFixed(1)} ${y.toFixed(1)} ${cx.toFixed(1)} ${toY.toFixed(1)} ${toX.toFixed(1)} ${toY.toFixed(1)}`
        : `C${x.toFixed(1)} ${cy.toFixed(1)} ${toX.toFixed(1)} ${cy.toFixed(1)} ${toX.toFixed(1)} ${toY.toFixed(1)}`;
      [x, y] = [toX, toY];
    });
    return path;
  };
}

/** A way back: out of the side of one node, around, and into the side of the other. */
function around([from, to], across, box, size, pace) {
  return (shift) => {
    const half = across ? box.height / 2 : box.width / 2;
    const reach = (across ? pace.row : pace.row) * 0.45 + 0.12 * Math.hypot(from[0] - to[0], from[1] - to[1]) + shift;
    if (across) {
      const top = Math.max(4, Math.min(from[1], to[1]) - half - reach);
      return `M${from[0] + shift} ${from[1] - half}C${from[0] + shift} ${top} ${to[0] + shift} ${top} ${to[0] + shift} ${to[1] - half}`;
    }
    const side = Math.max(4, Math.min(from[0], to[0]) - half - Math.min(reach, pace.row * 0.9));
    return `M${from[0] - half} ${from[1] + shift}C${side} ${from[1] + shift} ${side} ${to[1] + shift} ${to[0] - half} ${to[1] + shift}`;
  };
}
