import { startCollector } from '../../../test/support/collector';
import { eventually } from '../../../test/support/wait';
import type { Span } from './span';
import { MOST_WAITING, SpanExporter } from './span-exporter';

const span = (name: string): Span => ({
  name,
  kind: 'internal',
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  spanId: '00f067aa0ba902b7',
  parentSpanId: undefined,
  startMs: 1_700_000_000_000.5,
  endMs: 1_700_000_000_001,
  attributes: { text: 'a', whole: 7, part: 0.5, yes: true, none: undefined },
});
const many = (count: number): Span[] => Array.from({ length: count }, (_, i) => span(`s${i}`));
const SOON_MS = 10;
/** No test waits for it. */
const LATE_MS = 3_600_000;

function exporter(endpoint: string, flushMs: number) {
  const troubles: string[] = [];
  const made = new SpanExporter({
    endpoint,
    flushMs,
    service: 'belay-test',
    instance: 'one',
    onTrouble: (message) => troubles.push(message),
  });
  return { made, troubles };
}

describe('R67 the sending of spans', () => {
  it('gives the collector every span, in batches, with its values', async () => {
    const collector = await startCollector();
    const { made, troubles } = exporter(`${collector.url}/`, SOON_MS);
    made.add(many(1_200));
    await eventually(() => made.sent === 1_200, 'all spans sent');
    expect(collector.spans.map(({ name }) => name)).toEqual(many(1_200).map(({ name }) => name));
    expect(collector.spans[0]).toMatchObject({
      service: 'belay-test',
      instance: 'one',
      start: 1_700_000_000_000_500_000n,
      end: 1_700_000_000_001_000_000n,
      status: {},
    });
    expect(collector.spans[0]?.attributes).toStrictEqual({ text: 'a', whole: 7, part: 0.5, yes: true });
    await made.close(1_000);
    await collector.stop();
    expect([made.dropped, troubles]).toEqual([0, []]);
  });

  it('sends what waits at its end, and takes nothing after', async () => {
    const collector = await startCollector();
    const { made } = exporter(collector.url, LATE_MS);
    made.add(many(1_000));
    expect(made.sent).toBe(0);
    await made.close(10_000);
    expect([made.sent, made.dropped, collector.spans.length]).toEqual([1_000, 0, 1_000]);
    made.add(many(3));
    expect([made.sent, made.dropped]).toEqual([1_000, 3]);
    await collector.stop();
  });

  it('keeps a bounded number, and counts the others', async () => {
    const { made } = exporter('http://127.0.0.1:1', LATE_MS);
    made.add(many(MOST_WAITING - 1));
    made.add(many(3));
    made.add(many(5));
    expect(made.dropped).toBe(7);
    await made.close(10_000);
    expect([made.sent, made.dropped]).toEqual([0, MOST_WAITING + 7]);
  });

  it('gives up a collector that does not answer, at its end', async () => {
    const collector = await startCollector('silent');
    const { made, troubles } = exporter(collector.url, LATE_MS);
    made.add(many(600));
    await made.close(3_000);
    expect([made.sent, made.dropped]).toEqual([0, 600]);
    // The time was over with the first batch.
    expect(collector.text).toContain('"s511"');
    expect(collector.text).not.toContain('"s512"');
    expect(troubles).toHaveLength(1);
    await collector.stop();
  });

  it('reports the first failure after a success, with its reason, and counts each', async () => {
    const collector = await startCollector();
    const { made, troubles } = exporter(collector.url, SOON_MS);
    const port = Number(new URL(collector.url).port);
    made.add(many(1));
    await eventually(() => made.sent === 1, 'one span sent');
    await collector.stop();
    for (const dropped of [2, 4]) {
      made.add(many(2));
      await eventually(() => made.dropped === dropped, `${dropped} spans dropped`);
    }
    expect(troubles).toEqual([
      expect.stringMatching(new RegExp(`127\\.0\\.0\\.1:${port}/v1/traces .*ECONN`)),
    ]);
    await made.close(1_000);
  });
});
