// Writes docs/spec.schema.json from the schema that the validator itself uses. Run it after a change of the spec:
//
//   npm run build && node scripts/generate-schema.mjs
//
// A unit test fails while the file is stale.
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { specJsonSchema } from '#libs/contracts';
import * as prettier from 'prettier';

const target = fileURLToPath(new URL('../docs/spec.schema.json', import.meta.url));
const options = await prettier.resolveConfig(target);
await writeFile(
  target,
  await prettier.format(JSON.stringify(specJsonSchema()), { ...options, filepath: target }),
);
process.stdout.write(`${target}\n`);
