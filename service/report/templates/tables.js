// Tables that sort.

/**
 * columns: [{ name, kind: "text" | "number" | "percent" }]; rows: arrays of values.
 * sorted: { column, down } or null for the order of the rows.
 */
function sortableTable(host, caption, columns, rows, sorted = null) {
  const body = make("tbody");
  const heads = columns.map((column, i) => {
    const button = make("button", { type: "button" }, column.name);
    const head = make("th", { scope: "col", class: column.kind === "text" ? null : "number" }, button);
    button.addEventListener("click", () => {
      const down = sorted?.column === i ? !sorted.down : column.kind !== "text";
      sorted = { column: i, down };
      paint();
    });
    return head;
  });
  const paint = () => {
    heads.forEach((head, i) => {
      const mine = sorted?.column === i;
      if (mine) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
      head.firstChild.textContent = columns[i].name + (mine ? (sorted.down ? " ↓" : " ↑") : "");
    });
    const order = sorted ? [...rows].sort((a, b) => compared(a[sorted.column], b[sorted.column], sorted.down)) : rows;
    body.replaceChildren(...order.map((row) => make("tr", {}, ...row.map((value, i) => cell(value, columns[i], i)))));
  };
  paint();
  host.setAttribute("tabindex", "0");
  host.setAttribute("role", "region");
  host.setAttribute("aria-label", caption);
  host.replaceChildren(make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...heads)), body));
}

function cell(value, column, place) {
  const text = column.kind === "percent" ? percent(value) : plain(value);
  if (place === 0) return make("th", { scope: "row" }, text);
  const long = column.kind === "text" && text.length > 40;
  return make("td", { class: column.kind === "text" ? (long ? "text" : null) : "number" }, text);
}

/** Numbers by size, ∞ beyond them, texts by the alphabet; what is missing or NaN comes last either way. */
function compared(a, b, down) {
  const missing = (value) => value === null || value === undefined || value === "NaN";
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const size = (value) => ({ "∞": Infinity, "−∞": -Infinity })[value] ?? value;
  const [x, y] = [size(a), size(b)];
  const sign = isNumber(x) && isNumber(y) ? (x > y) - (x < y) : String(x).localeCompare(String(y), "en", { numeric: true });
  return down ? -sign : sign;
}

/** Fill a folded-away table when it is opened, and at once where it is open already. */
function tableWhenOpened(details, paint) {
  details.ontoggle = () => details.open && paint(details.querySelector(".table"));
  if (details.open) paint(details.querySelector(".table"));
}
