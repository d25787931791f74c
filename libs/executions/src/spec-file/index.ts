/**
 * Turns a spec file into a value for `validateSpec`: JSON or YAML, plain or gzip, and the traces of WfCommons. The file is
 * untrusted: sizes, aliases and unpacking are bounded.
 */
export { parseSpecText, type SpecTextOptions } from './parse-spec-text';
export { MAX_FILE_BYTES } from './read-bytes';
export {
  convertWfFormat,
  type WfConversion,
  type WfConversionOptions,
  type WfReport,
} from './wf-format/convert-wf-format';
export { isWfFormat } from './wf-format/is-wf-format';
export { WF_SCHEMA_VERSION } from './wf-format/read-tasks';
