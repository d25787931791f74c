/** A map of a bounded size: beyond it, the entry that was not used for the longest time is removed. */
export class RecentMap<T> {
  private readonly entries = new Map<string, T>();

  constructor(private readonly most: number) {}

  get size(): number {
    return this.entries.size;
  }

  /** The entry of a key, which becomes the last one to be removed. */
  get(key: string): T | undefined {
    const found = this.entries.get(key);
    if (found !== undefined) this.set(key, found);
    return found;
  }

  set(key: string, entry: T): void {
    this.entries.delete(key);
    this.entries.set(key, entry);
    const [oldest = key] = this.entries.keys();
    if (this.entries.size > this.most) this.entries.delete(oldest);
  }

  delete(key: string): void {
    this.entries.delete(key);
  }
}
