import { z } from 'zod';
import { executionSchema } from './spec-schema';

/**
 * The JSON Schema (2020-12) of a spec as people write it, for editors and other languages. It has only the shape; the validator
 * also has the rules between fields and nodes (unique ids, no cycles, …).
 */
export function specJsonSchema(): Record<string, unknown> {
  return {
    title: 'Belay execution spec',
    ...z.toJSONSchema(executionSchema, { io: 'input', target: 'draft-2020-12' }),
  };
}
