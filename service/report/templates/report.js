// Puts the page together.

const LINES_AT_FIRST = 6;
const LINES_AT_MOST = 24;
const FORKS = 14;
const EVERYWHERE = 0.999;
const SAME = 0.002; // lines that lie on each other are not both drawn at first

function showRun(run) {
  showShares(run);
  showForks(run);
  showGraph(run);
  sortableTable(byId("parameters-table"), "Parameters", parameterColumns(run.parameterColumns), run.parameters, {
    column: run.parameterColumns.indexOf("share"),
    down: true,
  });
}

function showShares(run) {
  const names = run.components.slice(0, LINES_AT_MOST);
  const on = new Set();
  names.forEach((name, i) => {
    const least = Math.min(...run.share[i].filter(isNumber));
    const seen = [...on].some((other) => run.share[i].every((share, at) => Math.abs(share - run.share[other][at]) < SAME));
    if (least < EVERYWHERE && !seen && on.size < LINES_AT_FIRST) on.add(i);
  });
  if (!on.size) names.slice(0, LINES_AT_FIRST).forEach((name, i) => on.add(i));
  const paint = () => {
    const quantity = byId("quantity").value;
    const series = [...on].sort((a, b) => a - b).map((i) => ({ name: names[i], values: run[quantity][i], number: i }));
    lineChart(byId("shares-chart"), {
      steps: run.steps,
      epochs: run.epochs,
      series,
      low: 0,
      high: 1,
      height: 300,
      label: `${quantity.replace("_", " ")} over steps ${run.steps[0]} to ${run.steps[run.steps.length - 1]} of ${series.map((s) => s.name).join(", ")}. Left and right read values; a table follows.`,
      tell: percent,
      axis: (value) => `${Math.round(100 * value)} %`,
    });
  };
  byId("quantity").onchange = paint;
  lineLegend(byId("shares-legend"), names, on, paint);
  paint();
  const losses = run.losses.filter(isNumber);
  if (losses.length) {
    lineChart(byId("loss-chart"), {
      steps: run.steps,
      epochs: run.epochs,
      series: [{ name: "loss", values: run.losses, number: 5 }],
      low: Math.min(0, ...losses),
      high: Math.max(...losses),
      height: 90,
      quiet: true,
      label: `Loss over the same steps, at last ${plain(run.losses[run.losses.length - 1])}`,
      tell: plain,
      axis: (value) => (value === 0 ? "loss 0" : plain(value)),
    });
  } else {
    nothing(byId("loss-chart"), "No finite loss.");
  }
  const columns = [["Component", "text"], ["Epoch", "number"], ["Share", "percent"], ["Foreign share", "percent"], ["Win rate", "percent"], ["Visits a trace", "number"], ["Steps", "number"]];
  const rows = run.byEpoch.map(([epoch, component, ...rest]) => [component, epoch, ...rest]);
  tableWhenOpened(byId("shares-numbers"), (host) =>
    sortableTable(host, "Shares by epoch, over all traced steps", columns.map(([name, kind]) => ({ name, kind })), rows),
  );
}

function showForks(run) {
  const epochs = [...new Set(run.forks.map((row) => row[0]))].sort((a, b) => a - b);
  const last = run.forks.filter((row) => row[0] === epochs[epochs.length - 1]).slice(0, FORKS);
  const first = new Map(run.forks.filter((row) => row[0] === epochs[0]).map((row) => [row[1], row[4]]));
  const columns = [["Component", "text"], ["Epoch", "number"], ["Contested", "number"], ["Won", "number"], ["Win rate", "percent"]];
  if (!last.length) {
    nothing(byId("forks-chart"), "No trace of this run ever had a choice between components.");
  } else {
    const rows = last.map(([epoch, name, contested, , rate]) => {
      const before = epochs.length > 1 ? first.get(name) : undefined;
      const marks = [];
      if (before !== undefined) {
        marks.push({ kind: "span", low: Math.min(before, rate), high: Math.max(before, rate), number: 0, value: rate });
        marks.push({ kind: "ring", value: before, number: 0, told: `${percent(before)} in epoch ${epochs[0]}` });
      }
      marks.push({ kind: "disc", value: rate, number: 0, told: `${percent(rate)} in epoch ${epoch}, of ${plain(contested)} forks` });
      return { name, note: percent(rate), marks, space: 18 };
    });
    const told = rows.map((row) => `${row.name} ${row.note}`).join(", ");
    markChart(byId("forks-chart"), rows, `Win rates in the last traced epoch: ${told}`);
  }
  tableWhenOpened(byId("forks-numbers"), (host) =>
    sortableTable(
      host,
      "Win rates by epoch, over all traced steps",
      columns.map(([name, kind]) => ({ name, kind })),
      run.forks.map(([epoch, component, ...rest]) => [component, epoch, ...rest]),
    ),
  );
}

let timer = null;
function showGraph(run) {
  const slider = byId("step");
  const last = run.steps.length - 1;
  const columns = [["From", "text"], ["To", "text"], ["Share of the mass", "percent"]];
  const told = (at) => {
    const words = `Step ${run.steps[at]}, epoch ${run.epochs[at]}, loss ${plain(run.losses[at])}`;
    slider.value = at;
    slider.setAttribute("aria-valuetext", words);
    byId("at").textContent = words;
    byId("routes").replaceChildren(
      ...run.routes.at[at].map(([number, share], rank) =>
        make("li", { "data-share": share }, swatch(rank), make("b", {}, percent(share)), make("span", {}, run.routes.texts[number])),
      ),
    );
    tableWhenOpened(byId("graph-numbers"), (host) =>
      sortableTable(
        host,
        `Ways at step ${run.steps[at]}`,
        columns.map(([name, kind]) => ({ name, kind })),
        run.graph.ways.map(([a, b], i) => [run.graph.nodes[a], run.graph.nodes[b], run.graph.shares[at][i]]),
        { column: 2, down: true },
      ),
    );
  };
  slider.max = last;
  slider.value = last;
  const show = componentGraph(byId("graph-chart"), run, told);
  const stop = () => {
    clearInterval(timer);
    timer = null;
    byId("play").setAttribute("aria-pressed", "false");
    byId("play").textContent = "Play";
  };
  const to = (at) => show(Math.max(0, Math.min(last, at)));
  const byHand = (at) => {
    stop();
    to(at);
  };
  slider.oninput = () => byHand(+slider.value);
  byId("back").onclick = () => byHand(+slider.value - 1);
  byId("forth").onclick = () => byHand(+slider.value + 1);
  byId("play").onclick = () => {
    if (timer) return stop();
    if (+slider.value === last) to(0);
    byId("play").setAttribute("aria-pressed", "true");
    byId("play").textContent = "Pause";
    timer = setInterval(() => (+slider.value === last ? stop() : to(+slider.value + 1)), 600);
  };
  stop();
  to(last);
}

function parameterColumns(names) {
  const known = {
    parameter: ["Parameter", "text"],
    shape: ["Shape", "text"],
    share: ["Share", "percent"],
    live: ["Live", "number"],
    dead: ["Dead", "number"],
    unread: ["Unread", "number"],
    margin: ["Margin", "number"],
    paths: ["Paths", "number"],
    main_share: ["On the main one", "percent"],
    route: ["Route of the strongest gradient", "text"],
  };
  return names.map((column) => ({ name: known[column][0], kind: known[column][1] }));
}

function begin() {
  const overview = embedded("report-data");
  const choose = (number) => {
    const { headline, notes, facts } = overview.runs[number];
    const which = byId("which");
    if (which) {
      which.value = number;
      byId("run-headline").replaceChildren(...headline.map((sentence) => make("p", {}, sentence)));
    }
    byId("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    byId("notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
    showRun(embedded(`run-${number}`));
  };
  byId("which")?.addEventListener("change", (event) => choose(+event.target.value));
  if (overview.comparison) {
    showComparison(overview, (number) => {
      choose(number);
      byId("which").focus();
    });
  }
  choose(0);
  // Says when everything was on the screen, in milliseconds since the page was asked for.
  requestAnimationFrame(() => setTimeout(() => (document.documentElement.dataset.ready = Math.round(performance.now()))));
}

begin();
