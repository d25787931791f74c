import { cleanText } from '../text/clean-text';

/** What a conversion did, one line for each simple field; nothing when there was no conversion. */
export function describeReport(report: unknown): string[] {
  if (typeof report !== 'object' || report === null) return [];
  const parts = Object.entries(report).flatMap(([name, value]) =>
    typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean'
      ? [`${name} ${cleanText(String(value))}`]
      : [],
  );
  return parts.length === 0 ? [] : [`converted from WfFormat: ${parts.join(', ')}`];
}
