// Every defect: `find` occurs once in `file` and is replaced by `put`; `project`, `path` and `title` (jest's -t) name the tests
// that should see it. Only the nearest tests are named, not all that might see it.
import { CONTAINMENT } from './containment.mjs';
import { ISOLATION } from './isolation.mjs';
import { KILLS } from './kills.mjs';
import { PROCESSES } from './processes.mjs';
import { RATES } from './rates.mjs';
import { SCRIPTS } from './scripts.mjs';
import { SERVICES } from './services.mjs';
import { TABLES } from './tables.mjs';
import { WEBHOOKS } from './webhooks.mjs';

export const MUTANTS = [
  ...TABLES,
  ...SCRIPTS,
  ...PROCESSES,
  ...CONTAINMENT,
  ...ISOLATION,
  ...KILLS,
  ...SERVICES,
  ...RATES,
  ...WEBHOOKS,
];
