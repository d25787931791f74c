import published from '../../../../docs/spec.schema.json';
import { specJsonSchema } from './json-schema';

describe('the JSON Schema', () => {
  it('that is published is the one the validator is made of; else run scripts/generate-schema.mjs', () => {
    expect(published).toEqual(JSON.parse(JSON.stringify(specJsonSchema())));
  });

  it('requires fields without a default and forbids unknown ones', () => {
    expect(specJsonSchema()).toMatchObject({
      required: ['name', 'nodes'],
      additionalProperties: false,
      properties: { nodes: { minItems: 1, maxItems: 100_000, items: { required: ['id', 'run'] } } },
    });
  });
});
