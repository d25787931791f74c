import { textOf, boundText } from './read-bytes';
import { parseJsonText } from './parse-json-text';
import { parseYamlText } from './parse-yaml-text';
import { refuseFile } from './refuse-file';

export interface SpecTextOptions {
  /** Only its ending counts: `.json` and `.json.gz` are JSON, anything else may be YAML too. */
  readonly fileName?: string;
}

/**
 * Parses a spec file: JSON or YAML 1.2, plain or gzip, as text or bytes. The value must still go through `validateSpec` or
 * `convertWfFormat`.
 *
 * @throws InvalidSpecError when the bytes are no UTF-8, the text is neither JSON nor YAML (with line and column), a key occurs
 *   twice, aliases expand without bound, or the file is larger than 64 MiB unpacked.
 */
export function parseSpecText(source: string | Uint8Array, options: SpecTextOptions = {}): unknown {
  const text = boundText(typeof source === 'string' ? source : textOf(source));
  if (text.trim() === '') return refuseFile('SYNTAX', 'the file is empty; write an execution spec into it.');
  const isJson = /\.json(\.gz)?$/i.test(options.fileName ?? '');
  if (isJson) return parseJsonText(text);
  // JSON is YAML as well, but JSON.parse reads large files twenty times faster.
  if (/^\s*[[{]/.test(text)) {
    try {
      return JSON.parse(text);
    } catch {
      return parseYamlText(text);
    }
  }
  return parseYamlText(text);
}
