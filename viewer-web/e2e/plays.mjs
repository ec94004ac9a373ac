/**
 * Opens a watch page that is already served and reads frames of the test picture from it. Exit
 * status 1 when the picture does not run.
 *
 *   node e2e/plays.mjs http://127.0.0.1:8080/watch/demo [--seconds 10]
 */
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { frames, openBrowser, openPage, record, stats, waitPlaying } from './harness.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string', default: '10' } },
});
const url = positionals[0];
if (!url) throw new Error('usage: node e2e/plays.mjs URL [--seconds N]');
const seconds = Number(values.seconds);

const browser = await openBrowser();
try {
  const { page, errors } = await openPage(browser, url);
  await waitPlaying(page, 60_000);
  await record(page);
  await sleep(seconds * 1000);
  const seen = await frames(page);
  const counters = seen.frames.map((frame) => frame.counter);
  const first = counters[0] ?? 0;
  const last = counters.at(-1) ?? 0;
  const { quality, latencyS } = await stats(page);
  console.log(
    JSON.stringify({ url, frames: counters.length, first, last, quality, latencyS, errors }),
  );
  // Frames that were read carry rising numbers, over at least half of the time.
  const rising = counters.every((counter, i) => i === 0 || counter > (counters[i - 1] ?? 0));
  const plays = counters.length >= seconds && rising && last - first >= seconds * 15;
  if (!plays || errors.length > 0) process.exitCode = 1;
} finally {
  await browser.close();
}
