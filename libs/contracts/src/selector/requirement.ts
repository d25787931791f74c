/** One condition on a label. `notin` also holds where the label is absent, as `key!=value` does. */
export type Requirement =
  | { readonly key: string; readonly op: 'in' | 'notin'; readonly values: readonly string[] }
  | { readonly key: string; readonly op: 'exists' }
  | { readonly key: string; readonly op: 'absent' };
