/** Injection token of the age up to which a passed drill counts: `{ ms }`, undefined without a schedule. */
export const DRILL_MAX_AGE = 'DRILL_MAX_AGE';
