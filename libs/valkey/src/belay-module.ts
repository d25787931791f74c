import {
  ConfigurableModuleBuilder,
  type ConfigurableModuleHost,
  type DynamicModule,
  type FactoryProvider,
  type ModuleMetadata,
} from '@nestjs/common';

/** Every module of Belay takes these beside its options. */
export interface ModuleExtras {
  /**
   * Modules with the providers that this one needs. The module exports them again, so that an application imports only this
   * one.
   */
  readonly imports?: NonNullable<ModuleMetadata['imports']>;
  /** Gives the providers to every module of the application, without an import. Default false. */
  readonly isGlobal?: boolean;
}

/** The base class of one of Belay's modules, with `forRoot` and `forRootAsync`, and the token of its options. */
export function belayModule<Options>(
  moduleName: string,
): ConfigurableModuleHost<Options, 'forRoot', 'create', ModuleExtras> {
  return new ConfigurableModuleBuilder<Options>({ moduleName })
    .setClassMethodName('forRoot')
    .setExtras<ModuleExtras>({ imports: [], isGlobal: false }, withExtras)
    .build();
}

/** Adds the extras to a module's definition. */
function withExtras(
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

/** The token of a provider: its class, or a name. */
type Token<Provided> = (abstract new (...args: never[]) => Provided) | string | symbol;

/** The provider of a class that is made by `new`, from providers in the order of its constructor. */
export function madeFrom<Made, Parts extends unknown[]>(
  provide: new (...parts: Parts) => Made,
  ...inject: { [Part in keyof Parts]: Token<Parts[Part]> }
): FactoryProvider<Made> {
  return { provide, inject, useFactory: (...parts) => new provide(...(parts as Parts)) };
}
