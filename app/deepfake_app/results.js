// Runs once with the `element` of the results. A list is drawn anew when a row is added, so what
// its reader opened is opened again.
let opened = new Set();
element.addEventListener(
  "toggle",
  (event) => {
    const rows = [...element.querySelectorAll(".df-result")];
    const place = rows.indexOf(event.target);
    if (place < 0) return;
    if (event.target.open) opened.add(place);
    else opened.delete(place);
  },
  true,
);
new MutationObserver(() => {
  const rows = element.querySelectorAll(".df-result");
  if (!rows.length) opened = new Set();
  rows.forEach((row, place) => {
    if (opened.has(place) && !row.open) row.open = true;
  });
}).observe(element, { childList: true, subtree: true });
