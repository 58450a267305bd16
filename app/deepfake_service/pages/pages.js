"use strict";
// Conveniences alone: every page does without.

for (const time of document.querySelectorAll("time"))
  time.title = new Date(time.dateTime).toLocaleString();

for (const list of document.querySelectorAll("[data-list]")) {
  const links = Array.from(list.querySelectorAll("[data-row]"));
  list.addEventListener("keydown", event => {
    const step = { j: 1, k: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = event.target.closest("tr")?.querySelector("[data-row]");
    links[Math.max(0, Math.min(links.length - 1, links.indexOf(row) + step))]?.focus();
  });
}

for (const button of document.querySelectorAll("[data-needs-two]")) {
  const boxes = Array.from(button.form.querySelectorAll("input[name=report]"));
  const look = () => {
    const ticked = boxes.filter(box => box.checked).length;
    button.disabled = ticked !== 2;
    for (const box of boxes) box.disabled = ticked >= 2 && !box.checked;
  };
  button.form.addEventListener("change", look);
  window.addEventListener("pageshow", look);
  look();
}

if (document.querySelector("[data-unfinished]")) {
  const again = () => {
    const busy = document.hidden || document.querySelector("input[name=report]:checked");
    if (busy) setTimeout(again, 3000);
    else location.reload();
  };
  setTimeout(again, 3000);
}
