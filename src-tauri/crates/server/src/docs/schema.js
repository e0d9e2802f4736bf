// JSON Schemas in words, and examples that fit them.

/** The schema that a reference points to; any other as it is. */
export function resolve(root, schema) {
  for (let steps = 0; schema && schema.$ref && steps < 20; steps++) {
    const parts = schema.$ref.replace(/^#\//, '').split('/');
    const found = parts.reduce((at, part) => at?.[part.replace(/~1/g, '/').replace(/~0/g, '~')], root);
    schema = { ...found, ...withoutRef(schema) };
  }
  return schema ?? {};
}

function withoutRef({ $ref, ...rest }) {
  return rest;
}

/** A schema with its references filled in, down to a depth that schemas which hold themselves do not pass. */
export function expanded(root, schema, depth = 0) {
  if (schema === null || typeof schema !== 'object') return schema;
  if (Array.isArray(schema)) return schema.map((one) => expanded(root, one, depth + 1));
  const full = depth < 12 ? resolve(root, schema) : schema;
  return Object.fromEntries(Object.entries(full).map(([key, value]) => [key, expanded(root, value, depth + 1)]));
}

/** A type in a few words: `integer, 1 to 512`. */
export function typeOf(root, schema, depth = 0) {
  schema = resolve(root, schema);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' or ');
  const many = schema.anyOf ?? schema.oneOf;
  if (many && depth < 3) return many.map((one) => typeOf(root, one, depth + 1)).join(' or ');
  const types = [schema.type ?? 'any'].flat();
  if (types.includes('array') && depth < 3) return `list of ${typeOf(root, schema.items ?? {}, depth + 1)}`;
  return types.join(' or ') + range(schema);
}

function range(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  if (low === undefined && high === undefined) return '';
  const from = low === undefined ? '' : `${schema.exclusiveMinimum === undefined ? 'from' : 'above'} ${low}`;
  const to = high === undefined ? '' : `${schema.exclusiveMaximum === undefined ? 'to' : 'below'} ${high}`;
  return `, ${[from, to].filter(Boolean).join(' ')}`;
}

/** A value to begin with: the example, the default, or the simplest that fits. */
export function example(root, schema, depth = 0) {
  schema = resolve(root, schema);
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  const many = schema.anyOf ?? schema.oneOf;
  if (many && depth < 5) return example(root, many[0], depth + 1);
  switch ([schema.type].flat()[0]) {
    case 'object': {
      const value = {};
      for (const name of depth < 5 ? (schema.required ?? []) : []) {
        value[name] = example(root, schema.properties?.[name] ?? {}, depth + 1);
      }
      return value;
    }
    case 'array': return depth < 5 && schema.items ? [example(root, schema.items, depth + 1)] : [];
    case 'integer': case 'number': return schema.minimum ?? 1;
    case 'boolean': return false;
    case 'string': return '';
    default: return null;
  }
}
