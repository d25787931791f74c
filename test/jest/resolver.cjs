'use strict';
// Some ES-module packages publish no `require` condition. Ask Jest's own resolver first, then once more with
// the `import` condition, for that request only.
module.exports = function resolve(request, options) {
  try {
    return options.defaultResolver(request, options);
  } catch (error) {
    try {
      return options.defaultResolver(request, {
        ...options,
        conditions: [...(options.conditions ?? []), 'import'],
      });
    } catch {
      throw error;
    }
  }
};
