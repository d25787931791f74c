/** The ways to keep an agent apart from Belay itself, weakest first (docs/isolation.md). */
export const ISOLATIONS = ['same-user', 'user', 'namespace'] as const;
export type Isolation = (typeof ISOLATIONS)[number];

/** User ids that no account has, both ends included: each running agent gets one of them. */
export interface UidRange {
  readonly first: number;
  readonly last: number;
}
