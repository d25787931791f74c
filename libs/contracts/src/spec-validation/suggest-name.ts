/** Comparisons that one validation may spend on suggestions: a huge graph with many typing errors must stay fast. */
const COMPARISON_BUDGET = 200_000;

/**
 * Finds the known name that a person most likely meant: equal but for case, `_` and `-`; else one that begins with it; else the
 * one with the fewest edits, at most a third of its length. One instance per validation, since its budget is shared.
 */
export class NameSuggester {
  private left = COMPARISON_BUDGET;

  /** The nearest of `known`, or undefined when none is near or the budget is spent. */
  nearest(wrong: string, known: Iterable<string>): string | undefined {
    const folded = fold(wrong);
    const limit = Math.floor(folded.length / 3);
    let best: string | undefined;
    let bestDistance = limit + 1;
    for (const name of known) {
      if (this.left === 0) return best;
      this.left -= 1;
      if (Math.abs(name.length - wrong.length) > limit + 2 && !name.startsWith(wrong)) continue;
      const distance = distanceBetween(folded, fold(name), limit);
      if (distance >= bestDistance) continue;
      best = name;
      bestDistance = distance;
    }
    return best;
  }
}

const fold = (name: string): string => name.slice(0, 64).toLowerCase().replaceAll(/[_-]/g, '');

function distanceBetween(wrong: string, name: string, limit: number): number {
  if (wrong === name) return 0;
  if (wrong.length >= 4 && name.startsWith(wrong)) return 1;
  if (Math.abs(wrong.length - name.length) > limit) return limit + 1;
  return editDistance(wrong, name, limit);
}

/**
 * Levenshtein distance, with a swap of two neighbours as one edit. Returns `limit + 1` once no row can come below the limit.
 */
function editDistance(a: string, b: string, limit: number): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let smallest = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + same);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) cost = Math.min(cost, before[j - 2]! + 1);
      row.push(cost);
      smallest = Math.min(smallest, cost);
    }
    if (smallest > limit) return limit + 1;
    before = previous;
    previous = row;
  }
  return previous[b.length]!;
}
