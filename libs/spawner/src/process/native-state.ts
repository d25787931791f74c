import { canSpawn, openLibc } from '../native';

/** Whether libc can be called from here, for `doctor`. */
export type NativeState =
  | { readonly available: true; /** `glibc 2.36`. */ readonly libc: string; readonly spawns: boolean }
  | { readonly available: false; readonly reason: string };

export function nativeState(): NativeState {
  const found = openLibc();
  if ('reason' in found) return { available: false, reason: found.reason };
  return { available: true, libc: found.libc.name, spawns: canSpawn(found.libc) };
}
