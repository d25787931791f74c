'use strict';
// Real processes on a machine that may be busy: no test is about this number.
jest.setTimeout(60_000);
