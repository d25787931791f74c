// `npm run faults -- [--seeds N] [--from S] [--minutes M] [--short] [--json]`: breaks fleets.
import { runBuilt } from './lib/run-built.mjs';

await runBuilt('test/faults');
