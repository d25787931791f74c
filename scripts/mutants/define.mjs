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

/** Unit tests see it, in the source. */
export const unit = define('unit');
/** Integration tests see it, in programs from dist/. */
export const real = define('integration');
