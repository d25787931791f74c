'use strict';
// A test fails by the bound of the wait it hangs in, which has a name (test/support/wait.ts). This bound ends what hangs
// elsewhere; no test is about the number, and a busy machine does not reach it.
jest.setTimeout(240_000);
