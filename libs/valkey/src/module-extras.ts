import type { DynamicModule, ModuleMetadata } from '@nestjs/common';

/** Every module of Belay takes these beside its options. */
export interface ModuleExtras {
  /** Modules with the providers that it needs. It exports them again, so that importing it alone is enough. */
  readonly imports?: NonNullable<ModuleMetadata['imports']>;
  /** Every module of the application sees its providers without importing it. Default false. */
  readonly isGlobal?: boolean;
}

/** The defaults, for ConfigurableModuleBuilder.setExtras. */
export const MODULE_EXTRAS: ModuleExtras = { imports: [], isGlobal: false };

/** Adds them to a module's definition. */
export function withExtras(
  definition: DynamicModule,
  { imports = [], isGlobal = false }: ModuleExtras,
): DynamicModule {
  const all = [...new Set([...(definition.imports ?? []), ...imports])];
  return {
    ...definition,
    global: isGlobal,
    imports: all,
    exports: [...(definition.exports ?? []), ...(all as NonNullable<DynamicModule['exports']>)],
  };
}
