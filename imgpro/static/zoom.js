// A picture in the whole window: zoom and pan by wheel, pinch, double click, drag, keys and buttons.
//
// It shows what the page shows already, and fetches the picture in full once there are not enough pixels in that.
// Places are CSS pixels within the glass; `k` is CSS pixels per pixel of the picture.

const STEP = 1.5;
const STRIDE = 90;
const SWIPE = 60;
const SMOOTH_MS = 55;
const ENOUGH = 1.1; // pixels of the screen per pixel of what is shown, up to which nothing more is fetched

const still = matchMedia("(prefers-reduced-motion: reduce)");
const between = (low, value, high) => Math.min(Math.max(low, value), high);

export class Lens {
  // `go` leads to the picture before ("prev") or after ("next") and says whether there is one.
  constructor(dialog, { src, width, height, shown, go }) {
    Object.assign(this, { dialog, src, width, height, shown, go });
    this.glass = dialog.querySelector(".glass");
    this.said = dialog.querySelector("output");
    this.all = dialog.querySelector(".lens-all");
    this.now = { x: 0, y: 0, k: 1 };
    this.goal = { ...this.now };
    this.pointers = new Map();
    this.frame = 0;
    dialog.querySelector('[data-do="full"]').hidden = !document.fullscreenEnabled;
    dialog.addEventListener("click", (event) => this.#does[event.target.dataset?.do]?.());
    dialog.addEventListener("close", () => this.#closed());
    this.glass.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.glass.addEventListener("pointerdown", (event) => this.#down(event));
    this.glass.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) this.glass.addEventListener(name, (event) => this.#up(event));
    new ResizeObserver(() => this.open && this.#resized()).observe(this.glass);
    addEventListener("popstate", () => this.#follow());
    this.#follow();
  }

  #does = {
    in: () => this.zoom(STEP),
    out: () => this.zoom(1 / STEP),
    fit: () => this.#to(this.fit),
    actual: () => this.#to(1),
    full: () => this.full(),
    close: () => this.close(),
    prev: () => this.go("prev"),
    next: () => this.go("next"),
  };

  get open() {
    return this.dialog.open;
  }

  // Open it. Going back closes it again, as people expect on a phone.
  show() {
    if (this.open) return;
    history.pushState(null, "", "#zoom");
    this.pushed = true;
    this.#open();
  }

  close() {
    if (this.open) this.dialog.close();
  }

  full() {
    this.show();
    const change = document.fullscreenElement ? document.exitFullscreen() : this.all.requestFullscreen?.();
    change?.catch(() => {}); // refused: then not
  }

  zoom(factor) {
    const { width, height } = this.#size();
    this.#to(this.goal.k * factor, width / 2, height / 2);
  }

  // Do what a key says; tell whether it says anything here.
  key(key) {
    const steps = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (key in steps && this.#zoomed()) {
      const [x, y] = steps[key];
      this.#aim({ ...this.goal, x: this.goal.x + x * STRIDE, y: this.goal.y + y * STRIDE });
      return true;
    }
    const names = { "+": "in", "=": "in", z: "in", "-": "out", 0: "fit", 1: "actual", f: "full" };
    if (!(key in names)) return false;
    this.#does[names[key]]();
    return true;
  }

  #follow() {
    const wanted = location.hash === "#zoom";
    if (wanted && !this.open) this.#open();
    if (!wanted && this.open) {
      this.pushed = false;
      this.close();
    }
  }

  #open() {
    this.picture = new Image();
    this.picture.src = this.shown.currentSrc || this.shown.src;
    this.picture.alt = this.shown.alt;
    this.picture.draggable = false;
    this.picture.addEventListener("load", () => this.#fetch());
    this.glass.replaceChildren(this.picture);
    this.whole = this.picture.src === this.src;
    this.dialog.showModal();
    this.#measure();
    this.#aim({ k: this.fit, x: 0, y: 0 }, true);
  }

  #closed() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.pointers.clear();
    if (document.fullscreenElement) document.exitFullscreen();
    if (location.hash !== "#zoom") return;
    if (this.pushed) history.back();
    else history.replaceState(null, "", location.pathname + location.search);
    this.pushed = false;
  }

  #size() {
    return { width: this.glass.clientWidth, height: this.glass.clientHeight };
  }

  #measure() {
    const { width, height } = this.#size();
    const fills = Math.min(width / this.width, height / this.height);
    this.fit = Math.min(1, fills);
    this.most = Math.max(8, fills);
    this.picture.style.width = `${this.width * this.fit}px`;
    this.picture.style.height = `${this.height * this.fit}px`;
  }

  #resized() {
    const zoomed = this.#zoomed();
    this.#measure();
    this.#aim(zoomed ? this.goal : { ...this.goal, k: this.fit }, true);
  }

  #zoomed() {
    return this.goal.k > this.fit * 1.001;
  }

  // Zoom to `k`; what is at a place stays there.
  #to(k, x = this.#size().width / 2, y = this.#size().height / 2, at_once = false) {
    const to = between(this.fit, k, this.most);
    const by = to / this.goal.k;
    this.#aim({ k: to, x: x - (x - this.goal.x) * by, y: y - (y - this.goal.y) * by }, at_once);
  }

  #aim({ k, x, y }, at_once = false) {
    const { width, height } = this.#size();
    const hold = (at, room, length) => (length <= room ? (room - length) / 2 : between(room - length, at, 0));
    this.goal = { k, x: hold(x, width, this.width * k), y: hold(y, height, this.height * k) };
    this.glass.classList.toggle("zoomed", this.#zoomed());
    this.glass.classList.toggle("coarse", k >= 3);
    this.said.value = `${k < 0.1 ? (k * 100).toFixed(1) : Math.round(k * 100)}%`;
    this.#fetch();
    if (at_once || still.matches) {
      this.now = { ...this.goal };
      this.#draw();
    } else if (!this.frame) {
      this.last = performance.now();
      this.frame = requestAnimationFrame((time) => this.#step(time));
    }
  }

  #step(time) {
    const share = 1 - Math.exp(-Math.max(0, time - this.last) / SMOOTH_MS);
    this.last = time;
    const near = Math.abs(this.goal.k / this.now.k - 1) < 0.002;
    const there = near && Math.hypot(this.goal.x - this.now.x, this.goal.y - this.now.y) < 0.5;
    for (const name of ["k", "x", "y"]) {
      this.now[name] = there ? this.goal[name] : this.now[name] + (this.goal[name] - this.now[name]) * share;
    }
    this.#draw();
    this.frame = there ? 0 : requestAnimationFrame((next) => this.#step(next));
  }

  #draw() {
    const { k, x, y } = this.now;
    const scale = k / this.fit;
    this.picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.picture.style.setProperty("--cell", `${20 / scale}px`); // of the checks behind what is transparent
  }

  // Fetch the picture in full when what is shown has too few pixels; a drawing never has.
  #fetch() {
    const have = this.picture.naturalWidth;
    if (this.whole || have >= this.width || !have) return;
    if (this.width * this.goal.k * devicePixelRatio <= have * ENOUGH) return;
    this.whole = true;
    const full = new Image();
    full.src = this.src;
    full.decode().then(
      () => this.open && (this.picture.src = full.src),
      () => (this.whole = false), // the next zoom tries again
    );
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? this.#size().height : 1;
    const speed = event.ctrlKey ? 0.01 : 0.002; // a pinch on a touchpad comes as a wheel with ctrl
    const by = Math.exp(-between(-240, event.deltaY * lines, 240) * speed);
    this.#to(this.goal.k * by, ...this.#place(event), event.ctrlKey);
  }

  #place(event) {
    const box = this.glass.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #down(event) {
    if (event.button !== 0) return;
    this.glass.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.#place(event));
    if (this.pointers.size === 1) {
      // Whatever still moves stops under the finger.
      this.goal = { ...this.now };
      this.began = { at: this.#place(event), moved: false, single: true };
    } else {
      this.began.single = false;
      this.#grasp();
    }
  }

  // Note how a pinch begins.
  #grasp() {
    if (this.pointers.size === 2) Object.assign(this.began, { goal: this.goal, ...this.#grip() });
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) return;
    const here = this.#place(event);
    this.pointers.set(event.pointerId, here);
    if (this.pointers.size === 2) {
      // Always from how it began: what the edges held back in between would add up.
      const { goal, middle, reach } = this.began;
      const now = this.#grip();
      const k = between(this.fit, (goal.k * now.reach) / reach, this.most);
      const place = (axis, at) => now.middle[axis] - ((middle[axis] - at) * k) / goal.k;
      this.#aim({ k, x: place(0, goal.x), y: place(1, goal.y) }, true);
    } else if (this.pointers.size === 1) {
      const [x, y] = this.began.at;
      if (Math.hypot(here[0] - x, here[1] - y) > 6) this.began.moved = true;
      if (this.#zoomed() && this.began.moved) this.#shift(here[0] - before[0], here[1] - before[1]);
    }
  }

  // Return the middle between two fingers and how far they are apart.
  #grip() {
    const [[x1, y1], [x2, y2]] = [...this.pointers.values()];
    return { middle: [(x1 + x2) / 2, (y1 + y2) / 2], reach: Math.max(1, Math.hypot(x1 - x2, y1 - y2)) };
  }

  #shift(x, y) {
    this.#aim({ k: this.goal.k, x: this.goal.x + x, y: this.goal.y + y }, true);
  }

  #up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.#grasp();
    if (event.type === "pointercancel" || this.pointers.size || !this.began.single) return;
    const here = this.#place(event);
    const [x, y] = [here[0] - this.began.at[0], here[1] - this.began.at[1]];
    if (!this.began.moved) this.#tap(event, here);
    else if (event.pointerType !== "mouse" && !this.#zoomed() && swiped(x, y)) this.go(swiped(x, y));
  }

  #tap(event, here) {
    const { time = 0, at = here } = this.tapped ?? {};
    const again = event.timeStamp - time < 350 && Math.hypot(here[0] - at[0], here[1] - at[1]) < 30;
    this.tapped = again ? null : { time: event.timeStamp, at: here };
    const box = this.picture.getBoundingClientRect();
    const beside =
      event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom;
    if (again) this.#to(this.#zoomed() ? this.fit : Math.max(1, this.fit * 2.5), ...here);
    else if (beside && !this.#zoomed() && event.pointerType === "mouse" && Math.min(box.width, box.height) > 40) {
      this.close();
    }
  }
}

// What a swipe by so many pixels asks for: "prev", "next" or nothing.
export function swiped(x, y) {
  if (Math.abs(x) < SWIPE || Math.abs(x) < 2 * Math.abs(y)) return "";
  return x < 0 ? "next" : "prev";
}
