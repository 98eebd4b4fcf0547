"""A table that is sorted by a click on a heading, in the page itself."""

import html

import numpy as np

SCRIPT = """\
<script>
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, i) => row.cells[i].dataset.value;
  table.querySelectorAll("th").forEach((head, i) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => {
        const [p, q] = [key(a, i), key(b, i)];
        if (p === "" || q === "") return (p === "") - (q === "");
        const [m, n] = [Number(p), Number(q)];
        const order = isNaN(m) || isNaN(n) ? p.localeCompare(q) : m - n;
        return down ? -order : order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
</script>"""

DIGITS = {"ra": 6, "dec": 6, "x": 2, "y": 2, "mjd": 5, "snr": 1, "max_snr": 1, "mean_snr": 1}


def sortable(table, names, first=None) -> str:
    """HTML of a table whose headings are buttons.

    Parameters
    ----------
    table : QTable
    names : sequence of str
        Of its columns that are shown.
    first : tuple of (str, sequence of str), optional
        Heading and cells (HTML) of a column before them, by which nothing can be sorted.
    """
    heads = [_heading(table, name) for name in names]
    if first is not None:
        heads.insert(0, f"<th>{first[0]}</th>")
    lines = []
    for number, row in enumerate(table):
        cells = [_cell(row, name) for name in names]
        if first is not None:
            cells.insert(0, f"<td>{first[1][number]}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{SCRIPT}"
    )


def _heading(table, name):
    unit = getattr(table[name], "unit", None)
    text = html.escape(f"{name.replace('_', ' ')}{f' [{unit}]' if unit else ''}")
    meaning = html.escape(table[name].info.description or name)
    return f'<th><button type="button" title="{meaning}">{text}</button></th>'


def _cell(row, name):
    value = getattr(row[name], "value", row[name])
    if isinstance(value, float | np.floating):
        key = "" if not np.isfinite(value) else repr(float(value))
        shown = f"{value:.{DIGITS[name]}f}" if name in DIGITS else f"{value:.4g}"
        return f'<td data-value="{key}">{shown if key else ""}</td>'
    if isinstance(value, bool | np.bool_):
        return f'<td data-value="{int(value)}">{"yes" if value else "no"}</td>'
    text = html.escape(str(value))
    return f'<td data-value="{text}">{text}</td>'
