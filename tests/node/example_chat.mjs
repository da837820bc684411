// Send a message with the transport of examples/nextjs-chat, and stop the answer once it has begun.
import { chatTransport, stopChat } from '../../examples/nextjs-chat/lib/chat.ts';
import { json } from 'node:stream/consumers';

const [{ api, stop }] = await json(process.stdin);
const message = { id: 'm1', role: 'user', parts: [{ type: 'text', text: 'Hello' }] };
const stream = await chatTransport(api).sendMessages({ chatId: 'c1', messages: [message], trigger: 'submit-message' });
let text = '';
let last = null;
let stopped = null;
for await (const chunk of stream) {
  last = chunk.type;
  if (chunk.type === 'text-delta') {
    text += chunk.delta;
    if (stop && stopped === null) stopped = await stopChat('c1', api);
  }
}
console.log(JSON.stringify({ text, last, stopped }));
