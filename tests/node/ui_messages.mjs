// Read bodies of UI message streams as the AI SDK's client does; print each message, or the error, and all chunks.
//
// Input: [[{body: base64, size: bytes of a piece}, ...]]
import { DefaultChatTransport, readUIMessageStream } from 'ai';
import { json } from 'node:stream/consumers';

const [bodies] = await json(process.stdin);

function response({ body, size }) {
  const bytes = Buffer.from(body, 'base64');
  const stream = new ReadableStream({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(new Uint8Array(bytes.subarray(at, at + size)));
      controller.close();
    },
  });
  return new Response(stream, { headers: { 'content-type': 'text/event-stream' } });
}

async function read(one) {
  const chunks = [];
  let message = null;
  let error = null;
  try {
    const transport = new DefaultChatTransport({ fetch: async () => response(one) });
    const stream = await transport.sendMessages({ chatId: 'c', messages: [], trigger: 'submit-message' });
    const seen = stream.pipeThrough(
      new TransformStream({
        transform(chunk, controller) {
          chunks.push(structuredClone(chunk));
          controller.enqueue(chunk);
        },
      }),
    );
    for await (const state of readUIMessageStream({ stream: seen, onError: (why) => (error ??= String(why?.message ?? why)) })) {
      message = state;
    }
  } catch (why) {
    error ??= String(why?.message ?? why);
  }
  return { message, error, chunks };
}

console.log(JSON.stringify(await Promise.all(bodies.map(read))));
