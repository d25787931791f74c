// Webhooks: forwarding of events, and sending of messages.
import { unit } from './define.mjs';

const FORWARDER = 'libs/webhooks/src/forwarder.ts';

export const WEBHOOKS = [
  unit(
    'webhooks-store-first',
    'the cursor of an endpoint moves before its messages are stored',
    FORWARDER,
    '          await target.store(messages);\n',
    '          setTimeout(() => void target.store(messages), 300);\n',
    'libs/webhooks/src/forwarder',
  ),
  unit(
    'webhooks-cursor-back',
    'an orchestrator that was suspended moves a cursor back',
    'libs/valkey/lua/moveWebhookCursors.lua',
    'if held == move[2] and held ~= move[3] then',
    'if held ~= move[3] then',
    'libs/webhooks/src/forwarder',
  ),
  unit(
    'webhooks-gap',
    'an endpoint is not told of events that the stream has lost',
    FORWARDER,
    'if (message.seq !== last.seq + 1)',
    'if (message.seq < 0)',
    'libs/webhooks/src/forwarder',
  ),
  unit(
    'webhooks-redirect',
    'a webhook follows a redirect',
    'libs/webhooks/src/post-message.ts',
    "redirect: 'manual'",
    "redirect: 'follow'",
    'libs/webhooks/src/post-message',
  ),
];
