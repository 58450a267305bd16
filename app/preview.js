(file) => {
  const place = document.getElementById("df-preview");
  const empty = '<article class="df-report df-empty"><p>The report will appear here.</p></article>';
  const mostBytes = 64 * 1024 * 1024;
  const put = (node) => {
    place.querySelectorAll("[src^='blob:']").forEach((old) => URL.revokeObjectURL(old.src));
    place.replaceChildren(...(node ? [node] : []));
    place.hidden = !node;
  };
  const say = (text) => {
    const note = document.createElement("p");
    note.textContent = text;
    put(note);
  };
  const show = async (address, name) => {
    const answer = await fetch(address);
    if (!answer.ok) return say("No preview of this file.");
    const content = await answer.blob();
    const kind = content.type.split("/")[0];
    const tag = { image: "img", audio: "audio", video: "video" }[kind];
    if (!tag) return say("No preview of this kind of file; it can still be examined.");
    const node = document.createElement(tag);
    if (tag === "img") node.alt = "Preview of " + name;
    else node.controls = true;
    node.setAttribute("aria-label", "Preview of " + name);
    node.onerror = () => say("Your browser cannot show this file; it can still be examined.");
    node.src = URL.createObjectURL(content);
    put(node);
  };
  if (!file || !file.url) put(null);
  else if (file.size > mostBytes) say("Too large for a preview; it can still be examined.");
  else show(file.url, file.orig_name || "the file").catch(() => say("No preview of this file."));
  return empty;
}
