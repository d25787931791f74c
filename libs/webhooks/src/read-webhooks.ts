import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { BelayError, type Problem, showValue } from '#libs/contracts';
import { checkEndpoint } from './check-endpoint';
import { type Fields, Faults } from './faults';
import { DEFAULT_RETRY } from './retry-delay';
import type { Endpoint, WebhookRetry, WebhooksConfig } from './webhooks.types';

/** Each has a queue and a connection in every orchestrator. */
const MOST_ENDPOINTS = 32;
/** The file must not be larger. Bytes. */
const MOST_BYTES = 262_144;

/** The numbers of `retry`, with their least and their greatest value. */
const RETRY_RANGES: Readonly<Record<keyof WebhookRetry, readonly [number, number]>> = {
  maxAttempts: [1, 100],
  delayMs: [10, 3_600_000],
  maxMs: [10, 86_400_000],
  jitter: [0, 1],
};

/**
 * Reads the file of BELAY_WEBHOOKS_FILE and the secrets that it names (docs/webhooks.md).
 * @throws BelayError INVALID_SETTINGS with every fault; no message contains a secret or a URL
 */
export function readWebhooks(path: string): WebhooksConfig {
  const faults = new Faults();
  const config = parseConfig(readObject(path, faults), dirname(resolve(path)), faults);
  if (faults.problems.length === 0) return config;
  throw invalidFile(path, faults.problems);
}

function readObject(path: string, faults: Faults): Fields {
  const text = readText(path, faults);
  if (text === undefined) return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text.
    faults.add('', 'NOT_JSON', 'the file is not JSON.');
    return {};
  }
  return faults.object('', value, ['endpoints', 'retry']) ?? {};
}

function readText(path: string, faults: Faults): string | undefined {
  try {
    const found = statSync(path);
    if (!found.isFile()) faults.add('', 'BAD_FILE', 'it is not a file.');
    else if (found.size > MOST_BYTES) faults.add('', 'BAD_FILE', `it has more than ${MOST_BYTES} bytes.`);
    else return readFileSync(path, 'utf8');
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException;
    faults.add('', 'BAD_FILE', `it cannot be read (${code}).`);
  }
  return undefined;
}

function parseConfig(fields: Fields, folder: string, faults: Faults): WebhooksConfig {
  const retry = parseRetry(fields['retry'], faults);
  const { endpoints: list } = fields;
  if (faults.problems.length > 0 && list === undefined) return { endpoints: [], retry };
  if (!Array.isArray(list)) {
    faults.add('endpoints', 'TYPE', `must be a list; it is ${showValue(list)}.`);
    return { endpoints: [], retry };
  }
  if (list.length > MOST_ENDPOINTS)
    faults.add('endpoints', 'TOO_MANY', `may have ${MOST_ENDPOINTS} endpoints; it has ${list.length}.`);
  const endpoints = list
    .slice(0, MOST_ENDPOINTS)
    .map((one: unknown, at) => checkEndpoint(one, `endpoints[${at}]`, folder, faults));
  const seen = new Set<string>();
  for (const [at, one] of endpoints.entries()) {
    if (one === undefined) continue;
    if (seen.has(one.name))
      faults.add(`endpoints[${at}].name`, 'TWICE', `${showValue(one.name)} is another endpoint's name.`);
    seen.add(one.name);
  }
  return { endpoints: endpoints.filter((one): one is Endpoint => one !== undefined), retry };
}

function parseRetry(value: unknown, faults: Faults): WebhookRetry {
  if (value === undefined) return DEFAULT_RETRY;
  const given = faults.object('retry', value, Object.keys(RETRY_RANGES)) ?? {};
  const read: Record<string, number> = {};
  for (const [name, [least, most]] of Object.entries(RETRY_RANGES)) {
    const number = given[name];
    if (number === undefined) continue;
    const isGood =
      typeof number === 'number' &&
      number >= least &&
      number <= most &&
      (name === 'jitter' || Number.isInteger(number));
    if (isGood) read[name] = number;
    else {
      const kind = name === 'jitter' ? 'a number' : 'a whole number';
      faults.add(
        `retry.${name}`,
        'BAD_VALUE',
        `must be ${kind} from ${least} to ${most}; it is ${showValue(number)}.`,
      );
    }
  }
  return { ...DEFAULT_RETRY, ...read };
}

function invalidFile(path: string, problems: readonly Problem[]): BelayError {
  const lines = problems.map((one) => (one.path === '' ? one.message : `${one.path}: ${one.message}`));
  return new BelayError(
    'INVALID_SETTINGS',
    `BELAY_WEBHOOKS_FILE: ${path} cannot be used; see docs/webhooks.md.\n  ${lines.join('\n  ')}`,
    { problems },
  );
}
