const MARK = Symbol.for('belay.handler-process');

/** Whether this process runs one handler: then the modules of Belay start no worker and no background work. */
export const isHandlerProcess = (): boolean => (globalThis as Record<symbol, unknown>)[MARK] === true;

export function becomeHandlerProcess(): void {
  (globalThis as Record<symbol, unknown>)[MARK] = true;
}
