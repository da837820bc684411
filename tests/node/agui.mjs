// Run an AG-UI agent with HttpAgent. Standard input: [URL, {options of the agent}, [run, ...]]. A run may have
// `messages` to add, `parameters` of runAgent, `resume` (an answer for each pending interrupt), and `abortAfter` (a type
// of event). Prints what the client has after each run.
import { json } from 'node:stream/consumers';
import { HttpAgent } from '@ag-ui/client';

const [url, options, runs] = await json(process.stdin);
const warnings = [];
console.warn = (...words) => warnings.push(words.map(String).join(' '));
console.error = () => {};
const agent = new HttpAgent({ url, ...options });
const outcomes = [];
for (const run of runs) {
  const seen = { types: [], outcome: null, pending: null, error: null, errorEvent: null };
  for (const message of run.messages ?? []) agent.addMessage(message);
  const parameters = { ...run.parameters };
  if (run.resume) {
    parameters.resume = agent.pendingInterrupts.map(({ id }, at) => ({ interruptId: id, ...run.resume[at] }));
  }
  try {
    const { result } = await agent.runAgent(parameters, {
      onEvent: ({ event }) => {
        seen.types.push(event.type);
        if (event.type === run.abortAfter) agent.abortRun();
      },
      onRunFinishedEvent: ({ outcome, pendingToolCallIds }) => {
        Object.assign(seen, { outcome, pending: pendingToolCallIds });
      },
      onRunErrorEvent: ({ event }) => Object.assign(seen, { errorEvent: event.message }),
    });
    seen.result = result;
  } catch (error) {
    seen.error = { message: error.message, status: error.status, payload: error.payload };
  }
  const { messages, state, pendingInterrupts } = agent;
  outcomes.push(structuredClone({ ...seen, messages, state, pendingInterrupts }));
}
console.log(JSON.stringify({ outcomes, warnings }));
process.exit(0);
