-- parts: the keys of one execution, by what follows its record's own name.
local PARTS = { '', ':nodes', ':specs', ':deps', ':outs', ':results', ':agents', ':order', ':events', ':todo', ':open', ':live', ':parked', ':unproved', ':said', ':asks' }
