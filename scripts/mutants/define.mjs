// One planted defect each, and the project of jest that should see it.
const define = (project) => (id, what, file, find, put, path, title) => ({
  id,
  what,
  file,
  find,
  put,
  project,
  path,
  title,
});

/** Seen by unit tests, against the source. */
export const unit = define('unit');
/** Seen by integration tests, against programs from dist/. */
export const real = define('integration');
