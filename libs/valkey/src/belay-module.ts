import {
  ConfigurableModuleBuilder,
  type ConfigurableModuleHost,
  type DynamicModule,
  type FactoryProvider,
  type ModuleMetadata,
  type Provider,
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
  /** Providers that are made among the module's own, such as the ports that it uses. The module exports them. */
  readonly providers?: readonly Provider[];
}

/** The base class of one of Belay's modules, with `forRoot` and `forRootAsync`, and the token of its options. */
export function belayModule<Options>(
  moduleName: string,
): ConfigurableModuleHost<Options, 'forRoot', 'create', ModuleExtras> {
  return new ConfigurableModuleBuilder<Options>({ moduleName })
    .setClassMethodName('forRoot')
    .setExtras<ModuleExtras>({ imports: [], isGlobal: false, providers: [] }, withExtras)
    .build();
}

/** Adds the extras to a module's definition. */
function withExtras(
  definition: DynamicModule,
  { imports = [], isGlobal = false, providers = [] }: ModuleExtras,
): DynamicModule {
  const all = [...new Set([...(definition.imports ?? []), ...imports])];
  return {
    ...definition,
    global: isGlobal,
    imports: all,
    providers: [...(definition.providers ?? []), ...providers],
    exports: [
      ...(definition.exports ?? []),
      ...(all as NonNullable<DynamicModule['exports']>),
      ...providers.map((provider) => ('provide' in provider ? provider.provide : provider)),
    ],
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
