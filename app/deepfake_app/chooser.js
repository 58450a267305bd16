// Runs once with the `element` of the drop zone. The files stay in the browser, so that they can be
// examined again with other options; the server deletes its copy with each report.
const input = element.querySelector("input[type=file]");
const drop = element.querySelector(".df-drop");
const list = element.querySelector(".df-chosen");
const preview = element.querySelector(".df-preview");
const status = element.querySelector(".df-status");
const mostFiles = Number(element.querySelector(".df-chooser").dataset.files);
const mostBytes = Number(element.querySelector(".df-chooser").dataset.bytes);
const mostPreviewBytes = 256 * 1024 * 1024;
let files = [];
let sending = null;

const make = (tag, properties, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

const size = (bytes) =>
  bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

const say = (text) => {
  status.textContent = text;
};

const showPreview = () => {
  preview.querySelectorAll("[src]").forEach((old) => URL.revokeObjectURL(old.src));
  preview.replaceChildren();
  const file = files.length === 1 ? files[0] : null;
  const tag = file && { image: "img", audio: "audio", video: "video" }[file.type.split("/")[0]];
  if (!tag || file.size > mostPreviewBytes) return;
  const node = make(tag, tag === "img" ? { alt: `Preview of ${file.name}` } : { controls: true });
  node.setAttribute("aria-label", `Preview of ${file.name}`);
  node.onerror = () =>
    preview.replaceChildren("Your browser cannot show this file; it can still be examined.");
  node.src = URL.createObjectURL(file);
  preview.append(node);
};

const show = () => {
  list.replaceChildren(
    ...files.map((file) => {
      const remove = make("button", { type: "button", textContent: "Remove" });
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      remove.onclick = () => {
        files = files.filter((other) => other !== file);
        show();
        drop.focus();
      };
      const name = make("span", { textContent: file.name });
      return make("li", {}, name, make("small", { textContent: size(file.size) }), remove);
    }),
  );
  showPreview();
};

const add = (more) => {
  say("");
  const known = new Set(files.map((file) => `${file.name} ${file.size} ${file.lastModified}`));
  const fresh = [...more].filter(
    (file) => !known.has(`${file.name} ${file.size} ${file.lastModified}`),
  );
  if (files.length + fresh.length > mostFiles)
    say(`At most ${mostFiles} files at once; the others were left out.`);
  files = [...files, ...fresh].slice(0, mostFiles);
  show();
};

const send = (file, place) =>
  new Promise((resolve) => {
    const failed = (code) => resolve({ name: file.name, error: code });
    if (file.size > mostBytes) return failed(413);
    const form = new FormData();
    form.append("files", file, file.name);
    const request = new XMLHttpRequest();
    sending = request;
    request.upload.onprogress = (event) => {
      const share = Math.round((100 * event.loaded) / event.total);
      say(`Sending file ${place + 1} of ${files.length}, ${file.name}: ${share} %`);
    };
    request.onload = () => {
      if (request.status !== 200) return failed(request.status);
      resolve({ name: file.name, path: JSON.parse(request.responseText)[0] });
    };
    request.onerror = () => failed(0);
    request.onabort = () => failed(-1);
    request.open("POST", "gradio_api/upload");
    request.send(form);
  });

// Not smoothly: what is drawn meanwhile would end the movement half-way.
const reveal = () =>
  document.getElementById("df-result").scrollIntoView({ behavior: "instant", block: "start" });

const watchPace = () => {
  const pace = document.getElementById("df-pace");
  new MutationObserver(() => {
    if (pace.querySelector("progress")) say("");
  }).observe(pace, { childList: true, subtree: true });
};
let watched = false;

window.deepfake = {
  sendAll: async () => {
    if (!watched) watchPace();
    watched = true;
    const sent = [];
    let stopped = false;
    if (files.length) say("Sending …");
    for (const [place, file] of files.entries()) {
      const one = stopped ? { name: file.name, error: -1 } : await send(file, place);
      stopped = one.error === -1;
      sent.push(one);
    }
    sending = null;
    say(files.length ? "Sent; waiting for its turn." : "");
    if (files.length) reveal();
    return sent;
  },
  stop: () => sending && sending.abort(),
  finish: () => {
    say("");
    requestAnimationFrame(() => {
      document.querySelector("#df-result h2")?.focus({ preventScroll: true });
      reveal();
    });
  },
};

input.onchange = () => {
  add(input.files);
  input.value = "";
};
drop.onkeydown = (event) => {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    input.click();
  }
};
for (const name of ["dragenter", "dragover", "dragleave", "drop"])
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("df-over-drop", name === "dragenter" || name === "dragover");
    if (name === "drop") add(event.dataTransfer.files);
  });
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add(event.clipboardData.files);
});
for (const button of element.querySelectorAll("[data-example]"))
  button.onclick = async () => {
    try {
      const answer = await fetch(`examples/${button.dataset.example}`);
      if (!answer.ok) throw new Error(answer.statusText);
      const content = await answer.blob();
      add([new File([content], button.dataset.example, { type: content.type, lastModified: 0 })]);
    } catch {
      say("The example could not be loaded.");
    }
  };
