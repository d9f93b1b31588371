// Drop or paste a picture anywhere, see it go, be led to its page. Without this the form sends itself.

const form = document.getElementById("upload");
const chooser = form.elements.namedItem("file");
const progress = form.querySelector(".progress");
const bar = progress.querySelector("progress");
const what = progress.querySelector(".what");
const how = progress.querySelector(".how");
const problem = form.querySelector(".problem");
const status = document.getElementById("status");
let running = null;

for (const hint of form.querySelectorAll(".scripted")) hint.hidden = false;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  take([...chooser.files]);
});
progress.querySelector(".cancel").addEventListener("click", () => running?.abort());
// Back from the picture's page, a browser may show this one as it was left: busy for ever.
addEventListener("pageshow", (event) => event.persisted && fail());

addEventListener("dragover", (event) => {
  event.preventDefault();
  form.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) form.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  form.classList.remove("over");
  receive(event.dataTransfer);
});
addEventListener("paste", (event) => {
  const typing = event.target instanceof Element && event.target.matches("input, textarea");
  if (typing && !event.clipboardData.files.length) return;
  event.preventDefault();
  receive(event.clipboardData);
});

function receive(data) {
  const text = (data.getData("text/uri-list") || data.getData("text/plain")).trim();
  if (data.files.length) take([...data.files]);
  else if (/^https?:\/\/\S+$/i.test(text) && form.dataset.import) fetchFrom(text);
  else if (text) fail("That is neither a picture nor the address of one.");
}

function take(files) {
  if (running) return;
  if (files.length > 1) return fail("One picture at a time, please.");
  if (!files.length) return;
  const [file] = files;
  // Refused here as the server would, because a browser that is cut off while it sends never sees the answer.
  if (file.size > Number(form.dataset.maxBytes)) {
    return fail(`The file is too large. Send one of at most ${size(Number(form.dataset.maxBytes))}.`);
  }
  const body = new FormData(form);
  body.set("file", file, file.name || "picture");
  send(form.action, body, file.name || "Picture");
}

function fetchFrom(url) {
  if (running) return;
  const fields = Object.fromEntries([...new FormData(form)].filter(([key, value]) => key !== "file" && value !== ""));
  send(form.dataset.import, JSON.stringify({ ...fields, url }), url);
}

function send(address, body, name) {
  const request = new XMLHttpRequest();
  running = request;
  problem.replaceChildren();
  what.textContent = name;
  how.textContent = "Starting";
  status.textContent = `Sending ${name}`;
  progress.hidden = false;
  form.classList.add("busy");
  bar.removeAttribute("value");
  request.open("POST", address);
  request.responseType = "json";
  if (typeof body === "string") {
    request.setRequestHeader("Content-Type", "application/json");
    how.textContent = "Fetching";
  } else {
    request.upload.addEventListener("progress", (event) => {
      bar.value = event.loaded / event.total;
      how.textContent = `${size(event.loaded)} of ${size(event.total)}`;
    });
    request.upload.addEventListener("load", () => {
      bar.removeAttribute("value");
      how.textContent = "Preparing";
    });
  }
  request.addEventListener("load", () => finish(request));
  request.addEventListener("error", () => fail("The connection was lost. Try again."));
  request.addEventListener("abort", () => fail("Cancelled."));
  request.send(body);
}

function finish(request) {
  const answer = request.response;
  if (request.status === 201 && answer) {
    const page = new URL(answer.url);
    status.textContent = "Done";
    // By the last step of the path only: this page may have been opened under another name than links start with.
    location.assign(new URL(page.pathname.split("/").pop() + page.search, location.href));
    return;
  }
  const details = Object.values(answer?.details ?? {});
  const next = details.length ? details : [answer?.action?.label].filter(Boolean).map((label) => `${label}.`);
  fail(answer?.message ?? "The server gave no usable answer. Try again.", ...next);
}

function fail(...sentences) {
  running = null;
  progress.hidden = true;
  form.classList.remove("busy");
  status.textContent = "";
  problem.replaceChildren(
    ...sentences.map((sentence) => Object.assign(document.createElement("p"), { textContent: sentence })),
  );
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  const unit = bytes < 1024 ** 2 ? [1024, "KB"] : [1024 ** 2, "MB"];
  return `${(bytes / unit[0]).toFixed(1).replace(/\.0$/, "")} ${unit[1]}`;
}
