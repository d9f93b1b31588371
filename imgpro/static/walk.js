// The keyboard walks over a grid's pictures.

import { TITLE } from "./grid.js";

// The picture that lies above (-1) or below (1) another.
export function beside(grid, index, step) {
  const here = grid.rowOf(index);
  const there = grid.rows[grid.rows.indexOf(here) + step];
  if (!there) return index;
  const middles = (row) => [...grid.columns(row)].map(([number, x, width]) => [number, x + width / 2]);
  const [, middle] = middles(here).find(([number]) => number === index);
  return middles(there).reduce((best, one) => (Math.abs(one[1] - middle) < Math.abs(best[1] - middle) ? one : best))[0];
}

// Bring a picture into the window, `below` pixels free under it, and the keyboard to it.
export function focus(grid, index, below = 80) {
  const row = grid.rowOf(index);
  const top = grid.top() + row.top;
  if (top - TITLE < scrollY) scrollTo(0, top - TITLE - 8);
  else if (top + row.height > scrollY + innerHeight - below) scrollTo(0, top + row.height - innerHeight + below);
  grid.active = grid.items[index];
  grid.draw();
  grid.tiles.get(grid.active.id)?.firstChild.focus({ preventScroll: true });
}
