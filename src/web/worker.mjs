/** A worker of onebranch.mjs: one instance of the engine, one band after the other. Ending it cancels. */

import { enhancedRows } from "./bands.mjs";
import { Engine } from "./engine.mjs";

/** @type {Promise<{pixels: any, alpha: () => any}> | undefined} */
let networks;

async function opened({ module, description, alpha }) {
  const engine = await Engine.create(module);
  return { pixels: engine.open(description), alpha: () => engine.open(alpha) };
}

async function enhance({ task, band }) {
  let at = 0;
  for (const rows of enhancedRows(await networks, band)) {
    const begin = at;
    at += rows.length; // a transferred array has no length any more
    if (at > begin) self.postMessage({ task, at: begin, rows }, [rows.buffer]);
  }
  self.postMessage({ task, done: true });
}

self.onmessage = async ({ data }) => {
  if (data.open) networks = opened(data.open);
  if (!data.band) return;
  try {
    await enhance(data);
  } catch (error) {
    self.postMessage({ task: data.task, error: String(error?.message ?? error) });
  }
};
