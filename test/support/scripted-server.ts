import { startScriptedServer, type ScriptedServer } from '../../apps/cli/src/session/scripted-server';

/** A scripted orchestrator for each test of a file; `onReady` is given it before the test. */
export function useScriptedServer(onReady: (server: ScriptedServer) => void): void {
  let server: ScriptedServer | undefined;
  beforeEach(async () => {
    server = await startScriptedServer();
    onReady(server);
  });
  afterEach(async () => server?.close());
}
