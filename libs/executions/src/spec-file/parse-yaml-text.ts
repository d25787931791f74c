import { type Problem, InvalidSpecError } from '#libs/contracts';
import { type Document, LineCounter, parseAllDocuments, type YAMLError } from 'yaml';
import { refuseFile } from './refuse-file';

/** How often aliases may expand in all: a billion-laughs file is refused, a shared `backoff` is not. */
const MAX_ALIASES = 1_000;
/** Faults listed of one file; one missing quote can make a hundred. */
const MAX_FAULTS = 10;

/** Parses YAML 1.2, core schema, one document, each key once; every fault names its line and column. */
export function parseYamlText(text: string): unknown {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    prettyErrors: false,
    uniqueKeys: true,
    stringKeys: true,
    schema: 'core',
    logLevel: 'silent',
  });
  if (!Array.isArray(documents) || documents.length === 0)
    return refuseFile('SYNTAX', 'the file is empty; write an execution spec into it.');
  const [document] = documents as [Document.Parsed];
  // A warning is about a tag or a version that this reader does not know: without it the text would mean something else.
  const faults = [...document.errors, ...document.warnings].slice(0, MAX_FAULTS);
  if (faults.length > 0) throw new InvalidSpecError(faults.map((fault) => problemOf(fault, lines)));
  if (documents.length > 1)
    return refuseFile(
      'SYNTAX',
      `the file has ${documents.length} documents; keep one, without "---" between.`,
    );
  return unfold(document);
}

function problemOf(fault: YAMLError, lines: LineCounter): Problem {
  const { line, col } = lines.linePos(fault.pos[0]);
  const at = `line ${line}, column ${col}`;
  if (fault.code === 'DUPLICATE_KEY')
    return {
      path: '',
      code: 'DUPLICATE_KEY',
      message: `${at}: this key is in its mapping already; name it once.`,
    };
  const what = fault.message.split('\n', 1)[0] as string;
  return { path: '', code: 'SYNTAX', message: `the file is not YAML: ${at}: ${what.replace(/\.$/, '')}.` };
}

function unfold(document: Document.Parsed): unknown {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown;
  } catch (error) {
    const { message } = error as Error;
    if (message.startsWith('Unresolved alias')) {
      const name = message.split(': ').at(-1);
      return refuseFile(
        'SYNTAX',
        `the file is not YAML: no anchor &${name} stands before its alias *${name}.`,
      );
    }
    return refuseFile(
      'TOO_LARGE',
      `the file's aliases unfold more than ${MAX_ALIASES} times; write some of them out.`,
    );
  }
}
