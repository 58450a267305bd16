"use strict";
const body = document.getElementById("files"), rows = Array.from(body.rows);
const verdict = document.getElementById("verdict"), search = document.getElementById("search");
const shown = document.getElementById("shown");
const texts = new Map(rows.map(row => [row, row.textContent.toLowerCase()]));
function filter() {
  const wanted = verdict.value, words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
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
