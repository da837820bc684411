// Drive the chat of `useChat`, without its page, against a service; print how it ended.
//
// Input: [{api, id, messages?, send: [text or parts, ...], body?, tools?: {name: output}, approve?, resume?, stopAt?, headers?}]
import { Chat } from '@ai-sdk/react';
import {
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} from 'ai';
import { json } from 'node:stream/consumers';

const [given] = await json(process.stdin);
const log = [];
let finishReason = null;
const called = [];
const url = `${given.api}/api/chat`;

const chat = new Chat({
  id: given.id,
  messages: given.messages ?? [],
  transport: new DefaultChatTransport({ api: url, body: given.body, headers: given.headers }),
  onError: (error) => log.push(String(error.message)),
  onToolCall: ({ toolCall }) => {
    called.push({ name: toolCall.toolName, input: toolCall.input });
    if (given.tools && toolCall.toolName in given.tools) {
      chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: given.tools[toolCall.toolName] });
    }
  },
  onFinish: (end) => {
    finishReason = end.finishReason ?? null;
  },
  sendAutomaticallyWhen: (state) =>
    lastAssistantMessageIsCompleteWithToolCalls(state) || lastAssistantMessageIsCompleteWithApprovalResponses(state),
});

const textOf = (message) => (message?.parts ?? []).filter((part) => part.type === 'text').map((part) => part.text).join('');
const settled = () => chat.status === 'ready' || chat.status === 'error';

async function until(condition, what) {
  for (let round = 0; round < 6000; round += 1) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never happened: ${what}; status ${chat.status}, ${JSON.stringify(log)}`);
}

async function stopAt(words) {
  await until(() => textOf(chat.lastMessage).includes(words), 'the words before the stop');
  const before = performance.now();
  const response = await fetch(`${url}/${encodeURIComponent(given.id)}/stop`, { method: 'POST', headers: given.headers });
  return { stopped: await response.json(), milliseconds: Math.round(performance.now() - before) };
}

let stopped = null;
let resumed = 0;
for (const what of given.send ?? []) {
  const sending = chat.sendMessage(typeof what === 'string' ? { text: what } : { parts: what });
  if (given.stopAt) stopped = await stopAt(given.stopAt);
  if (given.says) {
    const answered = () => chat.lastMessage.role === 'assistant' && textOf(chat.lastMessage).startsWith('H');
    await until(answered, 'the first words of the answer');
    console.log('begun');
  }
  await sending;
  while (given.resume && chat.status === 'error' && resumed < 100) {
    resumed += 1;
    await chat.resumeStream();
  }
}
if (given.onlyResume) await chat.resumeStream();
for (const approved of given.approve ?? []) {
  for (const part of chat.lastMessage.parts) {
    if (part.state === 'approval-requested') {
      await chat.addToolApprovalResponse({ id: part.approval.id, approved, ...(approved ? {} : { reason: 'no money' }) });
    }
  }
  await until(settled, 'the end of the answer after the approval');
}
await until(settled, 'the end of the answer');
console.log(JSON.stringify({
  status: chat.status,
  errors: log,
  messages: chat.messages,
  texts: chat.messages.map((message) => [message.role, textOf(message)]),
  called,
  finishReason,
  stopped,
  resumed,
}));
