// What the gallery's address says, as `gallery_query.py` reads it; days are those of the browser's time zone.

const FIELDS = ["q", "namespace", "tags", "tag_mode", "type", "date", "from", "to", "at"];
const DATES = new Set(["from", "to", "at"]);
export const SPANS = { today: "today", "7days": "the last 7 days", "last-week": "last week", month: "this month" };

export function read(search) {
  const query = new URLSearchParams(search);
  const usable = (name, text) => !DATES.has(name) || /^\d{4}(-\d\d){2}$/.test(text);
  const field = (name) => [name, (query.get(name) ?? "").trim()];
  return Object.fromEntries(FIELDS.map(field).map(([name, text]) => [name, usable(name, text) ? text : ""]));
}

export function address(state) {
  const query = new URLSearchParams(FIELDS.filter((name) => state[name]).map((name) => [name, state[name]]));
  return query.size ? `?${query}` : "?";
}

export const narrows = (state) => FIELDS.some((name) => name !== "tag_mode" && state[name]);
export const tagsOf = (state) => state.tags.split(",").map((tag) => tag.trim()).filter(Boolean);

function midnight(date, days = 0) {
  const [year, month, day] = date.split("-").map(Number);
  return new Date(year, month - 1, day + days);
}

// First day and the day after the last, as Unix seconds; null where there is no bound.
export function bounds(state) {
  const today = new Date(new Date().setHours(0, 0, 0, 0));
  const back = (days) => new Date(today.getFullYear(), today.getMonth(), today.getDate() - days);
  const monday = (today.getDay() + 6) % 7;
  const spans = {
    today: [today, null],
    "7days": [back(6), null],
    "last-week": [back(monday + 7), back(monday)],
    month: [new Date(today.getFullYear(), today.getMonth(), 1), null],
  };
  let [since, until] = spans[state.date] ?? [null, null];
  if (state.from) since = new Date(Math.max(since ?? 0, midnight(state.from)));
  for (const last of [state.to, state.at]) {
    if (last) until = new Date(Math.min(until ?? Infinity, midnight(last, 1)));
  }
  return [since, until].map((date) => (date && !Number.isNaN(+date) ? Math.max(0, Math.floor(date / 1000)) : null));
}

// The query of the API's list.
export function asked(state, cursor = "") {
  const [since, until] = bounds(state);
  const query = new URLSearchParams({ limit: 100 });
  for (const name of ["q", "namespace", "tags", "tag_mode", "type"]) if (state[name]) query.set(name, state[name]);
  if (since !== null) query.set("since", since);
  if (until !== null) query.set("until", until);
  if (cursor) query.set("cursor", cursor);
  return query;
}

// Whether a picture belongs into the list; null where only the server knows.
export function belongs(image, state) {
  const [since, until] = bounds(state);
  const tags = tagsOf(state);
  const has = (tag) => image.tags.includes(tag.toLowerCase());
  if (state.namespace && image.namespace !== state.namespace) return false;
  if (state.type && image.format !== state.type) return false;
  if (tags.length && !(state.tag_mode === "all" ? tags.every(has) : tags.some(has))) return false;
  if (since !== null && image.created_at < since) return false;
  if (until !== null && image.created_at >= until) return false;
  return state.q ? null : true;
}
