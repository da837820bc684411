// The connection to streamcore: the transport, the stop that ends the answer, and the chat that a reload continues.
import { DefaultChatTransport, type UIMessage } from 'ai';

export type SavedChat = { id: string; messages: UIMessage[] };

export function chatTransport(base = '') {
  return new DefaultChatTransport<UIMessage>({ api: `${base}/api/chat` });
}

/** End the answer in the service, which closes the vendor's response; `stop()` of `useChat` only disconnects. */
export async function stopChat(id: string, base = ''): Promise<boolean> {
  const response = await fetch(`${base}/api/chat/${encodeURIComponent(id)}/stop`, { method: 'POST' });
  return response.ok && (await response.json()).stopped;
}

export function savedChat(): SavedChat {
  const saved = sessionStorage.getItem('chat');
  return saved ? JSON.parse(saved) : { id: crypto.randomUUID(), messages: [] };
}

export function saveChat(chat: SavedChat): void {
  sessionStorage.setItem('chat', JSON.stringify(chat));
}
