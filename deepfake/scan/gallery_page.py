"""The frame of the page of :mod:`deepfake.scan.gallery`: its HTML, style and script."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="<!--POLICY-->">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Results of a scan</title>
<style><!--STYLE--></style>
</head>
<body>
<header>
<h1>Results of a scan</h1>
<p><!--TOTAL--> files. A verdict is a hint for a person who looks further, not proof: read the
probability, its interval and the reason with it.</p>
<ul class="counts"><!--COUNTS--></ul>
<!--NOTE-->
<form class="tools">
<label>Verdict <select id="verdict"><option value="">all</option><!--CHOICES--></select></label>
<label>Search <input id="search" type="search" placeholder="name or reason"></label>
<output id="shown" role="status"></output>
</form>
</header>
<main>
<table>
<caption>Files, the worst first; the buttons in the head sort</caption>
<thead><tr>
<th scope="col">Preview</th>
<th scope="col"><button type="button" data-column="1">File</button></th>
<th scope="col" aria-sort="ascending"><button type="button" data-column="2">Verdict</button></th>
<th scope="col"><button type="button" data-column="3">P(synthetic)</button></th>
<th scope="col">Main reason</th>
</tr></thead>
<tbody id="files">
<!--ROWS--></tbody>
</table>
</main>
<script><!--SCRIPT--></script>
</body>
</html>
"""

STYLE = """
:root { --ink: #1b1f24; --soft: #59626d; --paper: #fff; --panel: #f5f6f8; --line: #d8dce1;
  --synthetic: #b3261e; --suspicious: #8a5300; --authentic: #1a6b36; --inconclusive: #1f5aa8;
  --failed: #7a3a8c; --not_media: #59626d; --mark: #1f5aa8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaee; --soft: #a3acb7; --paper: #14171b;
  --panel: #1d2127; --line: #363d46; --synthetic: #ff8a80; --suspicious: #ffc166;
  --authentic: #7fd69a; --inconclusive: #8db8f2; --failed: #d9a6e8; --not_media: #a3acb7;
  --mark: #8db8f2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { padding: 1.25rem clamp(1rem, 3vw, 2.5rem) .75rem; background: var(--panel);
  border-bottom: 1px solid var(--line); }
h1 { margin: 0 0 .25rem; font-size: 1.4rem; }
p { margin: 0 0 .75rem; color: var(--soft); max-width: 70ch; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: 0 0 .9rem;
  list-style: none; }
.counts li { padding: .3rem .7rem; border: 1px solid currentColor; border-radius: .5rem;
  background: var(--paper); }
.counts b { font-size: 1.1rem; }
.tools { display: flex; flex-wrap: wrap; gap: .75rem 1.25rem; align-items: center; }
.tools label { color: var(--soft); }
select, input { font: inherit; color: var(--ink); background: var(--paper); padding: .3rem .5rem;
  border: 1px solid var(--line); border-radius: .4rem; margin-left: .35rem; }
input { width: min(20rem, 60vw); }
output { color: var(--soft); }
main { padding: 0 clamp(0rem, 2vw, 2rem) 2rem; }
@media (max-width: 48rem) { main { overflow-x: auto; } th { position: static; } }
table { border-collapse: collapse; width: 100%; min-width: 44rem; }
caption { text-align: left; padding: .75rem .6rem .25rem; color: var(--soft); font-size: .85rem; }
th, td { text-align: left; vertical-align: middle; padding: .5rem .6rem;
  border-bottom: 1px solid var(--line); }
th { position: sticky; top: 0; background: var(--paper); white-space: nowrap; }
th:nth-child(2) { min-width: 14rem; }
th button { all: unset; cursor: pointer; font-weight: 600; padding: .1rem .2rem; }
th button::after { content: " ↕"; color: var(--soft); }
th[aria-sort=ascending] button::after { content: " ↑"; color: var(--ink); }
th[aria-sort=descending] button::after { content: " ↓"; color: var(--ink); }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; border-radius: .2rem; }
tbody tr:hover { background: var(--panel); }
.picture { width: 8rem; text-align: center; }
.picture img { display: block; max-width: 7rem; max-height: 5.5rem; margin: auto;
  border-radius: .3rem; }
.none { color: var(--soft); font-size: .85rem; }
.path { overflow-wrap: anywhere; }
.about { display: block; color: var(--soft); font-size: .85rem; }
.verdict { white-space: nowrap; font-weight: 600; }
.synthetic { color: var(--synthetic); } .suspicious { color: var(--suspicious); }
.authentic { color: var(--authentic); } .inconclusive { color: var(--inconclusive); }
.failed { color: var(--failed); } .not_media { color: var(--not_media); }
.number { width: 11rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
small { color: var(--soft); font-size: .85rem; }
svg { display: block; width: 8rem; height: .55rem; margin-top: .25rem; }
.range { fill: var(--line); } .interval { fill: var(--soft); } .point { fill: var(--ink); }
@media print { .tools { display: none; } th { position: static; } }
"""

SCRIPT = """
"use strict";
const body = document.getElementById("files"), rows = Array.from(body.rows);
const verdict = document.getElementById("verdict"), search = document.getElementById("search");
const shown = document.getElementById("shown");
const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
function filter() {
  const wanted = verdict.value, words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const fits = (!wanted || row.dataset.verdict === wanted)
      && words.every(word => texts.get(row).includes(word));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = count + " of " + rows.length + " shown";
}
function sort(button) {
  const head = button.closest("th"), column = Number(button.dataset.column);
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = row => row.cells[column].dataset.key, sign = down ? -1 : 1;
  const order = column === 1 ? (a, b) => key(a).localeCompare(key(b)) : (a, b) => key(a) - key(b);
  rows.sort((a, b) => sign * order(a, b));
  body.append(...rows);
}
for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => sort(button));
verdict.addEventListener("change", filter);
search.addEventListener("input", filter);
document.querySelector(".tools").addEventListener("submit", event => event.preventDefault());
filter();
"""
