/** The kinds of evidence for the end of all trees of a worker. */
export const TREES_EVIDENCE = [
  'cgroup-empty',
  'namespace-ended',
  'descent-empty',
  'uid-empty',
  'sweep-empty',
] as const;
export type TreesEvidence = (typeof TREES_EVIDENCE)[number];
