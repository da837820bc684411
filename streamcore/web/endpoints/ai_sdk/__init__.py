"""Answer `useChat` of the AI SDK: chats that survive a lost connection, and end when the user stops them."""
