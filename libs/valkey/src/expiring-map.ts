/** This process's latest writes by id. If a failover loses them, the process stores them again. */
export class ExpiringMap<T> {
  private readonly items = new Map<string, { readonly item: T; readonly until: number }>();

  constructor(
    private readonly keepMs: number,
    private readonly most = 1_000,
  ) {}

  add(id: string, item: T): void {
    this.items.delete(id);
    this.items.set(id, { item, until: performance.now() + this.keepMs });
    this.trim();
  }

  has(id: string): boolean {
    this.trim();
    return this.items.has(id);
  }

  get(id: string): T | undefined {
    this.trim();
    return this.items.get(id)?.item;
  }

  /** The entries, oldest first. */
  list(): T[] {
    this.trim();
    return [...this.items.values()].map(({ item }) => item);
  }

  drop(id: string): void {
    this.items.delete(id);
  }

  private trim(): void {
    const now = performance.now();
    for (const [id, { until }] of this.items) {
      if (until > now && this.items.size <= this.most) return;
      this.items.delete(id);
    }
  }
}
