import { Module, type DynamicModule } from '@nestjs/common';
import { Valkey } from '#libs/valkey';
import { LifecycleService } from './lifecycle.service';
import type { LifecycleOptions } from './scope';

/** Gives `LifecycleService` to every module above. Needs ValkeyModule. */
@Module({})
export class LifecycleModule {
  static forRoot(options: LifecycleOptions): DynamicModule {
    return {
      module: LifecycleModule,
      global: true,
      providers: [
        {
          provide: LifecycleService,
          inject: [Valkey],
          useFactory: (valkey: Valkey) => new LifecycleService(valkey, options),
        },
      ],
      exports: [LifecycleService],
    };
  }
}
