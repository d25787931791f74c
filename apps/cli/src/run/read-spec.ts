import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { ExecutionSpecInput } from '#libs/contracts';
import type { WfReport } from '#libs/executions';
import { UsageError } from '../exit-codes';
import type { CliProcess } from '../session/cli-process';
import type { SpecReaders } from './spec-readers';

export interface ReadOptions {
  readonly timeScale?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly idempotencyKey?: string;
}

export interface ReadSpec {
  /** As it is posted: the orchestrator validates it. */
  readonly spec: ExecutionSpecInput;
  /** The report of a conversion; absent when there was none. */
  readonly report?: WfReport;
}

/** The name of stdin as a file. */
const STDIN = '-';
/** More than any spec may have; the reader of specs refuses it. Bytes. */
const MOST_BYTES = 64 * 1024 * 1024 + 1;

/** Reads a spec (YAML, JSON, or WfFormat 1.5, plain or .gz) from a file or stdin (`-`) and applies the command's flags to it. */
export async function readSpec(
  { cwd, stdin }: Pick<CliProcess, 'cwd' | 'stdin'>,
  file: string,
  options: ReadOptions,
  readers: SpecReaders,
): Promise<ReadSpec> {
  const bytes = file === STDIN ? await readAll(stdin) : await readBytes(cwd, file);
  const raw = readers.parseSpecText(bytes, { fileName: file });
  if (!readers.isWfFormat(raw)) {
    if (options.timeScale !== undefined)
      throw new UsageError(`--time-scale is for WfFormat files; ${file} is a spec of Belay's own.`);
    return { spec: withFlags(raw, options) as ExecutionSpecInput };
  }
  const scale = options.timeScale === undefined ? {} : { timeScale: options.timeScale };
  const { spec, report } = readers.convertWfFormat(raw, scale);
  return { spec: withFlags(spec, options) as ExecutionSpecInput, report };
}

async function readAll(stream: NodeJS.ReadableStream): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk);
    chunks.push(bytes);
    size += bytes.length;
    if (size >= MOST_BYTES) break;
  }
  return Buffer.concat(chunks);
}

async function readBytes(cwd: string, file: string): Promise<Uint8Array> {
  try {
    return await readFile(resolve(cwd, file));
  } catch (error) {
    throw unreadable(file, error);
  }
}

/** The error for a file that cannot be read, with the reason in plain words. */
export function unreadable(file: string, error: unknown): UsageError {
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a directory' : message;
  return new UsageError(`${file} cannot be read: ${why}.`);
}

/** Flags override the file. A spec that is no object is posted unchanged: the server says what is wrong. */
function withFlags(raw: unknown, { labels, idempotencyKey }: ReadOptions): unknown {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return raw;
  const spec: Record<string, unknown> = { ...raw };
  if (labels !== undefined) {
    const own = spec['labels'];
    spec['labels'] = typeof own === 'object' && own !== null ? { ...own, ...labels } : labels;
  }
  if (idempotencyKey !== undefined) spec['idempotencyKey'] = idempotencyKey;
  return spec;
}
