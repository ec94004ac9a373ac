/**
 * Measures the demo stream on loopback: camera to screen, from the clock in the picture, and the
 * time to the first frame. Prints the figures; exit status 1 when one is over its limit.
 *
 *   node e2e/latency.mjs [--seconds 30] [--navigations 5]
 */
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Broadcaster,
  frames,
  median,
  openBrowser,
  openPage,
  record,
  stats,
  waitPlaying,
} from './harness.mjs';

const LATENCY_MAX_S = 2.5;
const FIRST_FRAME_MAX_MS = 1_000;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    navigations: { type: 'string', default: '5' },
  },
});

const browser = await openBrowser();
const broadcaster = await Broadcaster.start({ args: ['--demo'] });
try {
  await broadcaster.reaches('demo', 'live');
  // A first window of media, so that the last navigation finds what the first did.
  await sleep(8_000);
  const firstFrames = [];
  for (let i = 0; i < Number(values.navigations); i += 1) firstFrames.push(await firstFrameMs());
  const { latencies, counted } = await latency(Number(values.seconds));
  const figures = {
    first_frame_ms: {
      median: median(firstFrames),
      all: firstFrames,
      max_allowed: FIRST_FRAME_MAX_MS,
    },
    latency_s: {
      median: round(median(latencies)),
      p5: round(quantile(latencies, 0.05)),
      p95: round(quantile(latencies, 0.95)),
      frames: latencies.length,
      max_allowed: LATENCY_MAX_S,
    },
    page: counted,
  };
  console.log(JSON.stringify(figures, null, 2));
  const good =
    figures.latency_s.median <= LATENCY_MAX_S &&
    figures.first_frame_ms.median <= FIRST_FRAME_MAX_MS;
  if (!good) process.exitCode = 1;
} finally {
  await browser.close();
  await broadcaster.stop();
}

async function firstFrameMs() {
  const { page, close } = await openPage(browser, `${broadcaster.url}/watch/demo?p2p=off`);
  await waitPlaying(page);
  const { firstFrameMs: ms } = await stats(page);
  await close();
  return ms ?? Infinity;
}

/** @param {number} seconds */
async function latency(seconds) {
  const { page, close } = await openPage(browser, `${broadcaster.url}/watch/demo?p2p=off`);
  await waitPlaying(page);
  await record(page);
  await sleep(seconds * 1_000);
  const { frames: shown, dropped, total, unread } = await frames(page);
  const { latencyS, stalls, stalledS, quality, bufferS } = await stats(page);
  await close();
  return {
    latencies: shown.map(({ shownMs, clockMs }) => (shownMs - clockMs) / 1_000),
    counted: { latencyS, stalls, stalledS, quality, bufferS, dropped, total, unread },
  };
}

/** @param {number[]} numbers @param {number} q */
function quantile(numbers, q) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * q)] ?? NaN;
}

/** @param {number} seconds */
function round(seconds) {
  return Number(seconds.toFixed(3));
}
