// Read Server-Sent Events from a response of fetch, which, unlike EventSource, shows errors' bodies and can be aborted.

export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", id = "", name = "", data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/); // a CR at the very end may be half of a CRLF
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { id, name: name || "message", data: data.join("\n") };
          name = ""; data = [];
          continue;
        }
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "data") data.push(text);
        else if (field === "event") name = text;
        else if (field === "id") id = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
