'use strict';
// A test fails by the bound of the wait in which it hangs, which has a name (test/support/wait.ts). This bound ends a test that
// hangs elsewhere; no test measures it, and a busy machine does not reach it.
jest.setTimeout(240_000);
