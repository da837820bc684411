// Do long work in short tasks, so that the page stays responsive: it is cut into steps, and between tasks the browser draws.

const BUDGET = 8; // milliseconds of steps in one task

const jobs = []; // the latest one is done first
let left = BUDGET;
let timer = 0;

/**
 * Do the steps of a generator: those that fit into this task at once, the others in later ones.
 *
 * A job is { steps, drawn, failed }: `drawn()` is called after each task that did some of its steps, `failed(error)` if
 * a step throws, which ends the job.
 */
export function work(job) {
  jobs.push(job);
  if (left > 0) slice();
}

/** Leave out the rest of a job. */
export function drop(job) {
  const position = jobs.indexOf(job);
  if (position >= 0) jobs.splice(position, 1);
}

function slice() {
  const begun = performance.now();
  const worked = new Set();
  while (jobs.length && performance.now() - begun < left) {
    const job = jobs.at(-1);
    worked.add(job);
    try {
      if (job.steps.next().done) drop(job);
    } catch (error) {
      drop(job);
      worked.delete(job);
      job.failed(error);
    }
  }
  for (const job of worked) job.drawn();
  left -= performance.now() - begun;
  timer ||= setTimeout(() => {
    timer = 0;
    left = BUDGET;
    if (jobs.length) slice();
  });
}

const channel = new MessageChannel();
const paused = [];
channel.port1.onmessage = () => paused.shift()();

/** Wait for the next task, also in a tab in the background, whose timers are slow. */
export function nextTask() {
  return new Promise((go) => {
    paused.push(go);
    channel.port2.postMessage(null);
  });
}
