import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';

const ROOT = resolve(__dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** README, CHANGELOG and every page below docs/. */
const PAGES = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.md'))
    .map((path) => `docs/${path}`),
].sort();

/** A page without its code blocks: the part in which a browser shows links and headings. */
const prose = (path: string): string => read(path).replace(/^(```|~~~).*?^\1/gms, '');

/** The anchors of a page, made from its headings like code hosts make them. */
function anchorsOf(path: string): string[] {
  return [...prose(path).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

function brokenLinks(page: string): string[] {
  const links = [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? page : relative(ROOT, resolve(ROOT, dirname(page), path));
    if (target.startsWith('..') || !existsSync(join(ROOT, target))) return true;
    return anchor !== undefined && target.endsWith('.md') && !anchorsOf(target).includes(anchor);
  });
}

/** Every source file of the checkout. */
const SOURCES = ['libs', 'apps', 'bench', 'scripts', 'test'].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(ts|lua|mjs|cjs|sh)$/.test(path) && !path.includes('node_modules'))
    .map((path) => `${folder}/${path}`),
);

/** The pages and headings that comments of a file name and that do not exist. */
function missingPages(source: string): string[] {
  return [...read(source).matchAll(/\bdocs\/[\w./-]+\.md(?:#[\w-]+)?/g)]
    .filter(([link]) => {
      const [page = '', anchor] = link.split('#');
      if (!existsSync(join(ROOT, page))) return true;
      return anchor !== undefined && !anchorsOf(page).includes(anchor);
    })
    .map(([link]) => `${source}: ${link}`);
}

/** `GET /api/x/:id` of every handler, read from the decorators. */
function routesOfControllers(): string[] {
  const folder = 'apps/orchestrator/src';
  const controllers = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.controller.ts'),
  );
  return controllers.flatMap((file) => {
    const source = read(`${folder}/${file}`);
    const base = /@Controller\('([^']*)'\)/.exec(source)?.[1] ?? '';
    return [...source.matchAll(/^ {2}@(Get|Post|Put|Patch|Delete)\((?:'([^']*)')?\)/gm)].map(
      ([, method = '', path]) =>
        `${method.toUpperCase()} /${[base, path].filter((part) => part !== undefined && part !== '').join('/')}`,
    );
  });
}

describe('the documents', () => {
  it('has a fresh docs/state-machines.md (else: node scripts/generate-docs.mjs)', async () => {
    const check = promisify(execFile)(process.execPath, [join(ROOT, 'scripts/generate-docs.mjs'), '--check']);
    await expect(check).resolves.toMatchObject({ stderr: '' });
  });

  it('lists planted defects whose text is found once (else: npm run mutants -- --check)', async () => {
    const check = promisify(execFile)(process.execPath, [join(ROOT, 'scripts/mutants.mjs'), '--check']);
    await expect(check).resolves.toMatchObject({ stdout: expect.stringContaining(', 0 that fit no longer') });
  });

  it('names no test that is not there (else: node scripts/generate-docs.mjs)', () => {
    const rows = read('docs/requirements.md').matchAll(/^\| R\d+ \| .* \| (.*)\|$/gm);
    const named = [...rows].flatMap(([, cell = '']) =>
      cell
        .split('<br>')
        .map((entry) => /^\[[^\]]+\]\(\.\.\/([^)]+)\): (.+?)\s*$/.exec(entry))
        .filter((match) => match !== null),
    );
    expect(named.length).toBeGreaterThan(0);
    const missing = named.filter(
      ([, path = '', title = '']) =>
        !existsSync(join(ROOT, path)) || !read(path).includes(title.replaceAll('\\|', '|')),
    );
    expect(missing.map(([, path, title]) => `${path}: ${title}`)).toEqual([]);
  });

  it.each(PAGES)('%s links to existing pages', (page) => {
    expect(brokenLinks(page)).toEqual([]);
  });

  it('has every page and heading that a comment names', () => {
    expect(SOURCES.length).toBeGreaterThan(500);
    expect(SOURCES.flatMap(missingPages)).toEqual([]);
  });

  it('names only npm scripts that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = PAGES.flatMap((page) =>
      [...read(page).matchAll(/\bnpm (?:run (?:-s )?([a-z][a-z0-9:-]*)|(start|test)\b)/g)].map(
        ([, ran, short]) => `${page}: ${ran ?? short}`,
      ),
    );
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter((entry) => scripts[entry.split(': ')[1] ?? ''] === undefined)).toEqual([]);
  });

  it('describes every route, and no other', () => {
    const described = [...read('docs/http-api.md').matchAll(/^### `([A-Z]+ \/\S*)`$/gm)].map(
      ([, route = '']) => route,
    );
    const served = routesOfControllers();
    expect(served.length).toBeGreaterThan(10);
    expect(described.toSorted()).toEqual(served.toSorted());
  });
});
