// Several runs side by side.

const MOST_ROWS = 10;
const NAMES = ["share", "foreign share", "win rate"];

function showComparison(overview, choose) {
  const { comparison } = overview;
  const shown = comparison.settings.slice(0, COLOURS);
  byId("compare-legend").replaceChildren(
    ...shown.map((name, number) => make("span", { class: "name" }, swatch(number), name)),
    ...(shown.length < comparison.settings.length
      ? [make("span", { class: "name" }, `The first ${shown.length} of ${comparison.settings.length} settings are drawn; the table has all.`)]
      : []),
  );
  const paint = () => {
    const measure = +byId("measure").value;
    const mine = comparison.spreads.filter((s) => s[0] === measure);
    markChart(byId("compare-chart"), comparisonRows(overview, mine, shown.length), `${NAMES[measure]} of components in the last epoch, by setting`);
    tableWhenOpened(byId("compare-numbers"), (host) =>
      sortableTable(
        host,
        `${NAMES[measure]} in the last epoch`,
        [["Component", "text"], ["Setting", "text"], ["Runs", "number"], ["Mean", "percent"], ["Standard deviation", "percent"], ["Least", "percent"], ["Greatest", "percent"]].map(([name, kind]) => ({ name, kind })),
        mine.map(([, component, setting, mean, deviation, values]) => {
          const numbers = values.map((v) => v[1]);
          return [comparison.components[component], comparison.settings[setting], numbers.length, mean, deviation, Math.min(...numbers), Math.max(...numbers)];
        }),
      ),
    );
  };
  byId("measure").addEventListener("change", paint);
  paint();
  runsTable(overview, choose);
}

function comparisonRows(overview, spreads, settings) {
  const { comparison, runs } = overview;
  const found = [...new Set(spreads.map((s) => s[1]))].sort((a, b) => a - b).slice(0, MOST_ROWS);
  return found.map((component) => {
    const name = comparison.components[component];
    const marks = [];
    for (const [, of, setting, mean, deviation, values] of spreads) {
      if (of !== component || setting >= settings) continue;
      const offset = (setting - (settings - 1) / 2) * 13;
      for (const [run, value] of values) {
        if (values.length > 1) marks.push({ value, kind: "dot", number: setting, offset: offset + 5, told: `${runs[run].run}, ${percent(value)}` });
      }
      const wide = deviation === null ? {} : { low: mean - deviation, high: mean + deviation };
      const told = `${comparison.settings[setting]}, mean ${percent(mean)}${deviation === null ? "" : ` ± ${percent(deviation)}`} of ${values.length}`;
      marks.push({ value: mean, kind: "disc", number: setting, offset, told, ...wide });
    }
    return { name, marks, space: 20 + 13 * settings };
  });
}

function runsTable(overview, choose) {
  const { comparison, runs } = overview;
  const top = comparison.components.slice(0, 3);
  const share = runs.map(() => top.map(() => null));
  for (const [measure, component, , , , values] of comparison.spreads) {
    if (measure === 0 && component < top.length) values.forEach(([run, value]) => (share[run][component] = value));
  }
  const columns = [
    { name: "Run", kind: "text" },
    { name: "Setting", kind: "text" },
    { name: "Loss", kind: "number" },
    ...top.map((name) => ({ name: `Share of ${name}`, kind: "percent" })),
  ];
  const rows = runs.map((run, i) => [run.run, comparison.settings[comparison.settingOf[i]], run.loss, ...share[i]]);
  sortableTable(byId("runs-table"), "Runs: last finite traced loss, and shares in the last epoch", columns, rows);
  byId("runs-table").addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr");
    if (row) choose(runs.findIndex((run) => run.run === row.firstChild.textContent));
  });
}
