import { formatTraceparent, parseTraceparent, SPAN_ATTRIBUTES, SPAN_EVENTS, SPANS } from './tracing';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

describe('R67 a traceparent', () => {
  it('is read and written as W3C Trace Context says', () => {
    const context = { traceId: TRACE, spanId: SPAN, isSampled: true };
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-01`)).toEqual(context);
    expect(formatTraceparent(context)).toBe(`00-${TRACE}-${SPAN}-01`);
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-00`)).toEqual({ ...context, isSampled: false });
    expect(formatTraceparent({ ...context, isSampled: false })).toBe(`00-${TRACE}-${SPAN}-00`);
    // Other flags are of later versions, and so are further fields.
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-fe`)?.isSampled).toBe(false);
    expect(parseTraceparent(`cc-${TRACE}-${SPAN}-03-more`)).toEqual(context);
  });

  it.each([
    ['no text', 7],
    ['nothing', undefined],
    ['version ff', `ff-${TRACE}-${SPAN}-01`],
    ['a fifth field in version 00', `00-${TRACE}-${SPAN}-01-x`],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-${SPAN}-01`],
    ['a span id of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['capitals', `00-${TRACE.toUpperCase()}-${SPAN}-01`],
    ['too few fields', `00-${TRACE}-01`],
    ['more characters than are read', `cc-${TRACE}-${SPAN}-01-${'x'.repeat(512)}`],
  ])('is none with %s', (_, value) => {
    expect(parseTraceparent(value)).toBeUndefined();
  });

  it('names are unique, and begin with belay', () => {
    const names = [SPANS, SPAN_EVENTS, SPAN_ATTRIBUTES].flatMap((all) => Object.values(all));
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^belay(\.[a-z_]+)+$/);
  });
});
