import { call, type ManyServers } from './many-servers';

/** SIGKILL to the server that `key` is written to. */
export async function killPrimary(many: ManyServers, key: string): Promise<void> {
  const primary = await many.primary(key);
  await primary.kill9();
}

/** Suspends the server to which `key` is written, with its connections open. The returned function resumes it. */
export async function freezePrimary(many: ManyServers, key: string): Promise<() => void> {
  const { pid } = await many.primary(key);
  process.kill(pid, 'SIGSTOP');
  return () => process.kill(pid, 'SIGCONT');
}

/**
 * From now on no new write reaches a replica, while clients go on as before. The returned function lets the replicas connect
 * again.
 */
export async function cutReplicas(many: ManyServers): Promise<() => Promise<void>> {
  for (const server of many.servers) {
    await call(server, 'ACL', 'SETUSER', 'default', '-psync', '-sync');
    await call(server, 'CLIENT', 'KILL', 'TYPE', 'replica').catch(() => undefined);
  }
  return async () => {
    for (const server of many.servers)
      await call(server, 'ACL', 'SETUSER', 'default', '+psync', '+sync').catch(() => undefined);
  };
}
