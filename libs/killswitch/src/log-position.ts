/** The time in a stream's id. */
export const timeOf = (streamId: string): number => Number(streamId.split('-')[0]);

/** Whether a stream's id comes before another. */
export function isBefore(id: string, other: string): boolean {
  const by = timeOf(id) - timeOf(other);
  return by === 0 ? Number(id.split('-')[1]) < Number(other.split('-')[1]) : by < 0;
}
