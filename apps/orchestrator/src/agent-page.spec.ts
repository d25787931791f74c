import type { AgentRecord } from '#libs/contracts';
import { pageOfAgents } from './agent-page';

const agent = (n: number, createdAt: number): AgentRecord =>
  ({ id: `agt_01ARZ3NDEKTSV4RRFFQ69G5FAV-${n}-1`, createdAt }) as AgentRecord;

describe('a page of agents', () => {
  it('goes on where the page before ended, whatever begins and ends meanwhile', () => {
    // Five that began at one moment, and two before them.
    const agents = [0, 1, 2, 3, 4].map((n) => agent(n, 20)).concat([agent(5, 10), agent(6, 5)]);
    const seen: string[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      // One more begins before each page. Its place is before those that were seen.
      const now = agents.concat(agent(100 + pages, 30 + pages));
      const page = pageOfAgents(now, { limit: 2, ...(cursor === undefined ? {} : { cursor }) });
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor;
      pages++;
    } while (cursor !== undefined && pages < 20);
    expect(seen).toHaveLength(agents.length + 1);
    expect(new Set(seen).size).toBe(seen.length);
  });

  it('has no cursor when it is the last, and takes none that no page has answered', () => {
    expect(pageOfAgents([agent(0, 1), agent(1, 2)], { limit: 2 })).not.toHaveProperty('nextCursor');
    for (const cursor of ['', 'x', '1', 'agt_1', '1.exe_1'])
      expect(() => pageOfAgents([], { cursor })).toThrow('The cursor is not from this list.');
  });
});
