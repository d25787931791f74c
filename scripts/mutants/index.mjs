// Every defect: `find` stands once in `file` and is replaced by `put`; `project`, `path` and `title` (jest's -t) say
// which tests should see it. The nearest tests are named, not all that might.
import { ISOLATION } from './isolation.mjs';
import { KILLS } from './kills.mjs';
import { PROCESSES } from './processes.mjs';
import { SCRIPTS } from './scripts.mjs';
import { SERVICES } from './services.mjs';
import { TABLES } from './tables.mjs';

export const MUTANTS = [...TABLES, ...SCRIPTS, ...PROCESSES, ...ISOLATION, ...KILLS, ...SERVICES];
