import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONTROL_KEYS, Keyspace, SHARD_KEYS } from './keyspace';

const ROOT = join(__dirname, '../../..');
const EXE = 'exe_01J00000000000000000000000';
const keys = new Keyspace('belay', 4);
const tag = keys.tagOf(EXE);

describe('the keyspace', () => {
  it('makes every key from the tag of its slot, as the scripts do', () => {
    expect(tag).toMatch(/^\{belay:[0-3]\}$/);
    expect(keys.tags()).toEqual(['{belay:0}', '{belay:1}', '{belay:2}', '{belay:3}']);
    expect(
      [
        keys.execution(EXE),
        keys.execution(EXE, 'removed'),
        keys.agentLog(EXE, 'agt_1'),
        keys.agentLogFile(EXE, 'agt_1'),
        keys.shard(tag, 'outbox:at'),
        keys.lock(tag, 'janitor'),
        keys.executionsIn(tag, 'stopping'),
        keys.executionsLabelled(tag, 'team=data'),
        keys.agentsIn(tag, 'spawning'),
        keys.agentsIn(tag, 'running'),
        keys.agentsIn(tag, 'killed'),
        keys.idempotency(tag, 'night'),
        keys.waiting(tag, 'gpu'),
        keys.ownedBy(tag, 'wrk_1'),
        keys.endedBy(tag, 'ord_1'),
        keys.proved(tag, 'agt_1'),
      ].map((key) => key.replace(`${tag}:`, '')),
    ).toEqual([
      `exe:${EXE}`,
      `exe:${EXE}:removed`,
      'log:agt_1',
      'log:agt_1:meta',
      'outbox:at',
      'turn:janitor',
      'idx:exe:stopping',
      'idx:lbl:team=data',
      'idx:agt:spawning',
      'idx:agt:running',
      'idx:agt:ended',
      'idem:night',
      'wait:gpu',
      'own:wrk_1',
      'ended:ord_1',
      'proved:agt_1',
    ]);
    expect(
      [
        keys.worker('wrk_1'),
        keys.ownTargets('wrk_1'),
        keys.workersIn('idle'),
        keys.workerProof('wrk_1'),
        keys.escapee('wrk_1', 42, '7'),
        keys.releasedLatch('lat_1'),
        keys.armed('n'),
        keys.traced('ord_1', 'complete'),
        keys.order('ord_1'),
        keys.orderTargets('ord_1'),
        keys.orderMissing('ord_1'),
        keys.orderStopped('ord_1'),
        keys.orderSealed('ord_1'),
      ].map((key) => key.replace('{belay:ctl}:', '')),
    ).toEqual([
      'wrk:wrk_1',
      'wrk:wrk_1:targets',
      'idx:wrk:idle',
      'proof:wrk_1',
      'escapee:wrk_1:42:7',
      'lat:lat_1',
      'armed:n',
      'traced:ord_1:complete',
      'ord:ord_1',
      'ord:ord_1:targets',
      'ord:ord_1:missing',
      'ord:ord_1:stopped',
      'ord:ord_1:sealed',
    ]);
    expect([keys.eventsChannel, keys.doorbellChannel]).toEqual(['belay:events', 'belay:doorbell']);
  });

  it('has no name that the tables of docs/architecture.md leave out', () => {
    const page = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
    const at = page.indexOf('| under the control tag |');
    const [shard, control] = [page.slice(page.indexOf('| in a shard |'), at), page.slice(at)];
    expect(SHARD_KEYS.filter((name) => !shard.includes(`\`${name}\``))).toEqual([]);
    // `quarantine` is in the first table, which says that it is under the control tag too.
    const known = (name: string): boolean => name === 'quarantine' || control.includes(`\`${name}\``);
    expect(CONTROL_KEYS.filter((name) => !known(name))).toEqual([]);
  });

  it('is the only file that builds a key', () => {
    const sources = ['libs', 'apps'].flatMap(sourcesBelow);
    expect(sources.length).toBeGreaterThan(400);
    const built = sources.flatMap(([file, text]) =>
      (text.match(BUILT) ?? []).map((found) => `${file}: ${found}`),
    );
    expect(built).toEqual([]);
    const known = new Set<string>([...SHARD_KEYS, ...CONTROL_KEYS]);
    const unknown = sources.flatMap(([file, text]) =>
      [...text.matchAll(NAMED)]
        .flatMap(([, found = '']) => found.match(/'[^']*'|`/g) ?? [])
        .filter((name) => !known.has(name.slice(1, -1)))
        .map((name) => `${file}: ${name}`),
    );
    expect(unknown).toEqual([]);
  });
});

/** A template that continues a key or a tag, as in `${key}:meta` and `${keys.order(id)}:targets`. */
const BUILT =
  /`\$\{(?:[\w.]*\.)?(?:key|tag|control|(?:key|keyOf|\w+Key|execution|order|worker|agentLog|shard)\([^)]*\))\}:[^`]*`/g;
/** The name that a call of `shard` gets. */
const NAMED = /\.shard\([^,()]*(?:\([^()]*\)[^,()]*)*,([^)]*)\)/g;

/** Every source file below a folder of the checkout, without the specs and the keyspace. */
function sourcesBelow(folder: string): (readonly [file: string, text: string])[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => join(folder, file))
    .filter((file) => /\/src\/.*(?<!\.spec)\.ts$/.test(file) && !file.endsWith('valkey/src/keyspace.ts'))
    .map((file) => [file, readFileSync(join(ROOT, file), 'utf8')] as const);
}
