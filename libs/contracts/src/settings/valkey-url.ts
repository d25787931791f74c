/** One address to connect to. */
export interface ValkeyNode {
  readonly host: string;
  readonly port: number;
}

/** `single`: one server. `sentinel`: the server that the sentinels call the primary. `cluster`: shards on many servers. */
export type ValkeyMode = 'single' | 'sentinel' | 'cluster';

/** The parsed BELAY_VALKEY_URL. Contains passwords: never log it. */
export interface ValkeyAddress {
  readonly mode: ValkeyMode;
  /** A Unix socket; then `nodes` is empty. */
  readonly path?: string;
  /** The server, the sentinels, or some nodes of the cluster. */
  readonly nodes: readonly ValkeyNode[];
  /** The sentinels' name for the primary. */
  readonly primary?: string;
  readonly tls: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly db?: number;
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
}

/** Its message ends a sentence, names the fault and contains no secret. */
class UrlFault extends Error {}

const SCHEME = /^(redis|valkey)(s?)(?:\+(sentinel|cluster))?:\/\//;
const SOCKET = /^unix:\/\/([^?]*)\??(.*)$/s;
const PARTS = /^([^/?]*)\/?([^?]*)\??(.*)$/s;
const HOST = /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]@/]+))(?::(\d{1,5}))?$/i;
const PORTS = { single: 6_379, sentinel: 26_379, cluster: 6_379 } as const;
const SENTINEL_LOGIN = ['sentinelUsername', 'sentinelPassword'] as const;

/**
 * Reads `redis://…`, `rediss://…` (TLS), `unix:///path` (`unix:///path?username=…&password=…`),
 * `redis+sentinel://h1:26379,h2:26379/name[/db]` and `redis+cluster://h1:7000,h2:7001`; `valkey` for `redis` is the same.
 * Returns a string when the text cannot be read: the reason.
 */
export function parseValkeyUrl(text: string): ValkeyAddress | string {
  try {
    return text.startsWith('unix://') ? readSocket(text) : readUrl(text);
  } catch (error) {
    if (error instanceof UrlFault) return error.message;
    // The only fault that decodeURIComponent reports.
    return 'it has a % that encodes nothing: write %25';
  }
}

function readSocket(text: string): ValkeyAddress {
  const [, name, query] = SOCKET.exec(text) as unknown as [string, string, string];
  const path = decodeURIComponent(name);
  if (!/^\/./s.test(path)) throw new UrlFault('a socket needs an absolute path: unix:///run/valkey.sock');
  return { mode: 'single', path, nodes: [], tls: false, ...readSocketLogin(query) };
}

/** As the client libraries of Node and Python read it. Other parameters are ignored, as they do. */
function readSocketLogin(query: string): Pick<ValkeyAddress, 'username' | 'password'> {
  const parameters = new URLSearchParams(query);
  const [username, password] = [parameters.get('username') ?? '', parameters.get('password') ?? ''];
  return { ...(username === '' ? {} : { username }), ...(password === '' ? {} : { password }) };
}

function readUrl(text: string): ValkeyAddress {
  const scheme = SCHEME.exec(text);
  if (scheme === null) throw new UrlFault('it begins with none of these');
  const mode = (scheme[3] ?? 'single') as ValkeyMode;
  const rest = text.slice(scheme[0].length);
  // The login ends at the last @, because people forget to encode an @ in a password.
  const at = rest.replace(/\?.*$/s, '').lastIndexOf('@');
  const [, hosts, path, query] = PARTS.exec(rest.slice(at + 1)) as unknown as [
    string,
    string,
    string,
    string,
  ];
  return {
    mode,
    nodes: readHosts(hosts, mode),
    tls: scheme[2] === 's',
    ...readLogin(at < 0 ? '' : rest.slice(0, at)),
    ...readPath(path, mode),
    ...(mode === 'single' ? {} : readQuery(query, mode)),
  };
}

function readHosts(text: string, mode: ValkeyMode): ValkeyNode[] {
  const nodes = text.split(',').map((entry) => {
    const [, address, name, port] = HOST.exec(entry) ?? [];
    const host = address ?? name;
    const number = port === undefined ? PORTS[mode] : Number(port);
    if (host === undefined || number < 1 || number > 65_535)
      throw new UrlFault('a host must be written like name, name:6379 or [::1]:6379');
    return { host, port: number };
  });
  if (mode === 'single' && nodes.length > 1)
    throw new UrlFault('many hosts need redis+sentinel:// or redis+cluster://');
  return nodes;
}

function readLogin(text: string): Pick<ValkeyAddress, 'username' | 'password'> {
  const colon = text.indexOf(':');
  const username = decodeURIComponent(colon < 0 ? text : text.slice(0, colon));
  const password = colon < 0 ? '' : decodeURIComponent(text.slice(colon + 1));
  return { ...(username === '' ? {} : { username }), ...(password === '' ? {} : { password }) };
}

function readPath(path: string, mode: ValkeyMode): Pick<ValkeyAddress, 'primary' | 'db'> {
  if (mode === 'cluster') {
    if (path !== '' && path !== '0')
      throw new UrlFault('a Cluster has no database numbers: end it after the hosts');
    return {};
  }
  const parts = path.split('/').map(decodeURIComponent);
  const primary = mode === 'sentinel' ? parts.shift() : undefined;
  if (primary === '')
    throw new UrlFault(
      'it must name the primary the sentinels watch: redis+sentinel://h1:26379,h2:26379/mymaster',
    );
  const [db = '', ...more] = parts;
  if (more.length > 0 || !/^\d{0,4}$/.test(db)) throw new UrlFault('a database is a number: …/0');
  return { ...(primary === undefined ? {} : { primary }), ...(db === '' ? {} : { db: Number(db) }) };
}

function readQuery(text: string, mode: ValkeyMode): Pick<ValkeyAddress, (typeof SENTINEL_LOGIN)[number]> {
  const found: Partial<Record<(typeof SENTINEL_LOGIN)[number], string>> = {};
  for (const [key, value] of new URLSearchParams(text)) {
    const name = SENTINEL_LOGIN.find((one) => one === key);
    if (name === undefined || mode !== 'sentinel')
      throw new UrlFault(
        `it has an unknown parameter; with sentinels there are ${SENTINEL_LOGIN.join(' and ')}`,
      );
    found[name] = value;
  }
  return found;
}

/** The address in a form that may be shown: passwords and parameters masked. The rest helps to find mistakes. */
export function maskUrl(text: string): string {
  return text
    .replace(/^([a-z+]+:\/\/[^:@/]*):.*@/is, '$1:********@')
    .replace(/(?<=[?&][^=&]*=)[^&]*/g, '********');
}

/** Scheme and hosts, for messages. */
export function describeUrl(text: string): string {
  if (text.startsWith('unix://')) return text.replace(SOCKET, 'unix://$1');
  const [, scheme = '', hosts = ''] = /^([a-z+]+:\/\/)(?:.*@)?([^/?]*)/is.exec(text) ?? [];
  return `${scheme}${hosts}`;
}
