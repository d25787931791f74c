-- parts: the keys of one execution, each by its suffix to the record's name.
local PARTS = { '', ':nodes', ':specs', ':deps', ':outs', ':results', ':agents', ':order', ':events', ':todo', ':open', ':live', ':parked', ':unproved', ':said', ':asks' }
