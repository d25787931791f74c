import type { KeyObject } from 'node:crypto';
import { resolve } from 'node:path';
import { showValue } from '#libs/contracts';
import { readSecretFile } from '#libs/service';
import { EVENT_PATTERNS } from './event-patterns';
import type { Faults } from './faults';
import { keyOf } from './sign-message';
import type { Endpoint } from './webhooks.types';

const FIELDS = ['name', 'url', 'secretFile', 'events', 'allowHttp'];
/** A part of a queue's key and the value of a metric's label. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$/;
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/;
const MOST_URL = 2_048;

/** Undefined, with a fault for each field at fault, where it cannot be used. */
export function checkEndpoint(
  value: unknown,
  path: string,
  folder: string,
  faults: Faults,
): Endpoint | undefined {
  const fields = faults.object(path, value, FIELDS);
  if (fields === undefined) return undefined;
  const name = checkName(fields['name'], `${path}.name`, faults);
  const url = checkUrl(fields['url'], fields['allowHttp'], path, faults);
  const keys = checkSecret(fields['secretFile'], `${path}.secretFile`, folder, faults);
  const events = checkEvents(fields['events'], `${path}.events`, faults);
  if (name === undefined || url === undefined || keys === undefined || events === undefined) return undefined;
  return { name, url, keys, events };
}

function checkName(value: unknown, path: string, faults: Faults): string | undefined {
  if (typeof value === 'string' && NAME.test(value)) return value;
  return faults.add(
    path,
    'BAD_VALUE',
    `must be 1 to 32 of the characters A-Z a-z 0-9 _ -, the first a letter or a digit; it is ${showValue(value)}.`,
  );
}

/** No message shows the URL: its path may be a secret of the receiver's. */
function checkUrl(value: unknown, allowHttp: unknown, path: string, faults: Faults): URL | undefined {
  const at = `${path}.url`;
  if (allowHttp !== undefined && typeof allowHttp !== 'boolean')
    faults.add(`${path}.allowHttp`, 'TYPE', `must be true or false; it is ${showValue(allowHttp)}.`);
  const isUrl = typeof value === 'string' && value.length <= MOST_URL && URL.canParse(value);
  const url = isUrl ? new URL(value) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    return faults.add(at, 'BAD_VALUE', 'must be an https URL; its value is not shown.');
  if (url.username !== '' || url.password !== '' || url.hash !== '')
    return faults.add(at, 'BAD_VALUE', 'must have no user, password or fragment; its value is not shown.');
  if (url.protocol === 'https:' || LOOPBACK.test(url.hostname) || allowHttp === true) return url;
  return faults.add(
    at,
    'NOT_ENCRYPTED',
    'must be https, or http on loopback. To send events unencrypted, set "allowHttp": true.',
  );
}

function checkSecret(
  value: unknown,
  path: string,
  folder: string,
  faults: Faults,
): readonly KeyObject[] | undefined {
  if (typeof value !== 'string' || value === '' || value.includes('\0'))
    return faults.add(path, 'TYPE', `must be the path of a file; it is ${showValue(value)}.`);
  const file = resolve(folder, value);
  const found = readSecretFile(file, 'name another file');
  if ('fault' in found) return faults.add(path, 'BAD_FILE', `${file} ${found.fault}.`);
  const keys = found.text.split(/\s+/).map(keyOf);
  const good = keys.filter((key) => key !== undefined);
  if (good.length === keys.length && good.length <= 2) return good;
  return faults.add(
    path,
    'BAD_SECRET',
    `${file} must have whsec_ and the base64 of 24 to 64 random bytes, at most two of these on a line each. ` +
      'Make one with: echo "whsec_$(openssl rand -base64 32)"',
  );
}

function checkEvents(value: unknown, path: string, faults: Faults): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.length > EVENT_PATTERNS.length)
    return faults.add(
      path,
      'TYPE',
      `must be a list of 1 to ${EVENT_PATTERNS.length} event types or patterns; it is ${showValue(value)}.`,
    );
  const list = value as readonly unknown[];
  const wrong = list.flatMap((one, at) =>
    typeof one === 'string' && EVENT_PATTERNS.includes(one) ? [] : [{ one, at }],
  );
  for (const { one, at } of wrong)
    faults.add(
      `${path}[${at}]`,
      'UNKNOWN_EVENT',
      `${showValue(one)} is no event type or pattern; ${faults.hint(String(one), EVENT_PATTERNS)}`,
    );
  return wrong.length === 0 ? (list as readonly string[]) : undefined;
}
