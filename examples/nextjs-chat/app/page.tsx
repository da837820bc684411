'use client';

import { useChat } from '@ai-sdk/react';
import { isToolUIPart, type UIMessage } from 'ai';
import { useEffect, useState } from 'react';
import { chatTransport, saveChat, savedChat, stopChat, type SavedChat } from '../lib/chat';

const transport = chatTransport();

export default function Page() {
  const [saved, setSaved] = useState<SavedChat | null>(null);
  useEffect(() => setSaved(savedChat()), []); // sessionStorage exists only in the browser
  return saved && <Chat {...saved} />;
}

function Chat({ id, messages: earlier }: SavedChat) {
  const [input, setInput] = useState('');
  const { messages, sendMessage, resumeStream, stop, status, error } = useChat({
    id,
    messages: earlier,
    transport,
    resume: true, // after a reload
  });
  const busy = status === 'submitted' || status === 'streaming';

  useEffect(() => {
    if (status !== 'streaming') saveChat({ id, messages });
  }, [id, messages, status]);

  useEffect(() => {
    if (status !== 'error' || !(error instanceof TypeError)) return; // TypeError: the connection broke
    const timer = setTimeout(() => void resumeStream(), 300);
    return () => clearTimeout(timer);
  }, [status, error, resumeStream]);

  return (
    <main>
      {messages.map((message) => (
        <Message key={message.id} message={message} />
      ))}
      <p id="status">{status}</p>
      {error && !(error instanceof TypeError) && <p role="alert">{error.message}</p>}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void sendMessage({ text: input });
          setInput('');
        }}
      >
        <input value={input} onChange={(event) => setInput(event.target.value)} disabled={busy} />
        <button disabled={busy || !input.trim()}>Send</button>
        {busy && (
          <button
            type="button"
            onClick={async () => {
              await stopChat(id);
              await stop();
            }}
          >
            Stop
          </button>
        )}
      </form>
    </main>
  );
}

function Message({ message }: { message: UIMessage }) {
  return (
    <article className={message.role}>
      <strong>{message.role === 'user' ? 'You' : 'Assistant'}</strong>
      {message.parts.map((part, number) => {
        if (part.type === 'text') {
          return (
            <p key={number} style={{ whiteSpace: 'pre-wrap' }}>
              {part.text}
            </p>
          );
        }
        if (part.type === 'reasoning') return <details key={number}>{part.text}</details>;
        if (isToolUIPart(part)) return <pre key={number}>{JSON.stringify(part, null, 2)}</pre>;
        return null;
      })}
    </article>
  );
}
