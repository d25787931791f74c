import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** One line of an apt source. */
export interface AptSource {
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
  /** Path of the key that signs it; absent: apt's own keys. */
  readonly signedBy?: string;
}

/**
 * The distribution's own sources as this machine configures them, with its mirror and its keys. Other vendors' sources are left
 * out: an unreachable one would only slow down the search.
 */
export function distributionSources(codename: string, etc = '/etc/apt'): AptSource[] {
  const files = [join(etc, 'sources.list'), ...listDirectory(join(etc, 'sources.list.d'))];
  const all = files.flatMap((file) => {
    const text = readText(file);
    if (file.endsWith('.sources')) return parseDeb822(text);
    return file.endsWith('.list') ? parseOneLine(text) : [];
  });
  const own = ['', '-updates', '-security', '-backports'].map((pocket) => `${codename}${pocket}`);
  return all.filter((source) => own.includes(source.suite) || source.suite === `${codename}/updates`);
}

/** The sources and, for Debian, backports from the same mirror: Debian 12 has Valkey only there. */
export function withBackports(sources: readonly AptSource[], codename: string): AptSource[] {
  const suite = `${codename}-backports`;
  const main = sources.find((source) => source.suite === codename);
  if (main === undefined || sources.some((source) => source.suite === suite)) return [...sources];
  return [...sources, { ...main, suite, components: ['main'] }];
}

/** As lines of a sources.list. */
export function formatSources(sources: readonly AptSource[]): string {
  return sources
    .map((source) => {
      const key = source.signedBy === undefined ? '' : `[signed-by=${source.signedBy}] `;
      return `deb ${key}${source.uri} ${source.suite} ${source.components.join(' ')}\n`;
    })
    .join('');
}

/** `deb [signed-by=/…] http://mirror/debian bookworm main contrib` */
export function parseOneLine(text: string): AptSource[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)/.exec(line);
    if (match === null) return [];
    const signedBy = /(?:^|\s)signed-by=(\S+)/i.exec(match[1] ?? '')?.[1];
    return [
      {
        uri: match[2] ?? '',
        suite: match[3] ?? '',
        components: words(match[4]),
        ...(signedBy === undefined ? {} : { signedBy }),
      },
    ];
  });
}

/** Stanzas of `Types: deb`, `URIs: …`, `Suites: …`, `Components: …`, `Signed-By: …`. */
export function parseDeb822(text: string): AptSource[] {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    const field = (name: string): string | undefined =>
      new RegExp(`^${name}:[ \\t]*(.*)$`, 'im').exec(stanza)?.[1]?.trim();
    if (!words(field('Types')).includes('deb') || field('Enabled') === 'no') return [];
    // A key that is written into the file itself has no path: apt's own keys are used.
    const key = field('Signed-By');
    const signedBy = key?.startsWith('/') === true ? key : undefined;
    return words(field('URIs')).flatMap((uri) =>
      words(field('Suites')).map((suite) => ({
        uri,
        suite,
        components: words(field('Components')),
        ...(signedBy === undefined ? {} : { signedBy }),
      })),
    );
  });
}

function words(text: string | undefined): string[] {
  return (text ?? '').split(/\s+/).filter((word) => word !== '');
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path)
      .sort()
      .map((name) => join(path, name));
  } catch {
    return [];
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
