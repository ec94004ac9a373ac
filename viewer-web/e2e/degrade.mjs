/**
 * A ladder that is too heavy: what is left runs at real time, nobody stalls, and what went comes
 * back. Prints figures; exit status 1 when one is over its limit.
 *
 *   SHOAL_BIN=… node e2e/degrade.mjs [--noise-minutes 20] [--seed 1] [--rungs 6]
 *
 * 1. A ladder that takes twice the machine: at real time within 15 s.
 * 2. A ladder that fits, a page on one of its qualities, then a load that leaves half of what the
 *    ladder takes: the page's quality goes, the page goes on; when the load ends it is back.
 * 3. Noisy load: at most one change per minute.
 * check-hls follows every stream from its first playlist on and must stay silent.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { blockCodeClip } from './clip.mjs';
import {
  BINARY,
  Broadcaster,
  eventually,
  goesFirst,
  openBrowser,
  openPage,
  stats,
  waitPlaying,
} from './harness.mjs';

const REAL_TIME_WITHIN_S = 15;
const BACK_WITHIN_S = 60;
const SPEED_MIN = 0.95;

const { values } = parseArgs({
  options: {
    'noise-minutes': { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    rungs: { type: 'string', default: '6' },
  },
});

/** @typedef {{ id: string, state: string, reason: string | null, cores: number | null }} Quality */
/** @typedef {{ name: string, speed: number | null, worker_cores: number, renditions: Quality[] }} Load */
/** @typedef {{ streams: Load[], changes: { total: number, recent: { at: string, rendition: string, on: boolean, reason: string }[] } }} Resources */

const cores = availableParallelism();
const clip = await blockCodeClip({ width: 1920, height: 1080, fps: 60, seconds: 60, kbps: 12_000 });
const calmClip = await blockCodeClip({
  width: 1920,
  height: 1080,
  fps: 30,
  seconds: 20,
  kbps: 6_000,
});
const broadcaster = await Broadcaster.start();
// A viewer and a checker have machines of their own: they go first where that is allowed.
const browser = await openBrowser({ first: true });
/** @type {Record<string, unknown>} */
const figures = { cores };
const faults = /** @type {string[]} */ ([]);
try {
  await tooHeavy();
  await loaded();
} catch (error) {
  faults.push(String(error));
} finally {
  await browser.close();
  await broadcaster.stop();
}
console.log(JSON.stringify({ ...figures, faults }, null, 2));
if (faults.length > 0) process.exitCode = 1;

/** A ladder that takes about twice the machine. */
async function tooHeavy() {
  const heavy = Array.from({ length: Number(values.rungs) }, (_, i) =>
    own(`heavy-${i}`, 1080, 60, 3_000),
  );
  const follow = await begin('heavy', [...heavy, '720p60', '720p', '480p', '360p']);
  const began = Date.now();
  let demand = 0;
  let calm = 0;
  let realTimeAfterS = null;
  while (Date.now() - began < 40_000) {
    const load = await of('heavy');
    if (load.speed !== null) {
      demand = Math.max(demand, load.worker_cores / Math.max(load.speed, 0.1));
      calm = load.speed >= SPEED_MIN ? calm + 1 : 0;
      // Three seconds in a row, counted from the first.
      if (calm === 3) realTimeAfterS ??= (Date.now() - began) / 1_000 - 2;
    }
    await sleep(1_000);
  }
  const made = (await of('heavy')).renditions.filter((r) => r.state === 'live').map((r) => r.id);
  const said = await follow.ends();
  await broadcaster.api('DELETE', '/streams/heavy');
  figures.too_heavy = {
    demand_of_cores: round(demand / cores),
    real_time_after_s: realTimeAfterS && round(realTimeAfterS),
    max_allowed_s: REAL_TIME_WITHIN_S,
    made,
    check_hls: said || 'silent',
  };
  if (realTimeAfterS === null || realTimeAfterS > REAL_TIME_WITHIN_S)
    faults.push('not at real time in time');
  if (said) faults.push(`check-hls of the heavy ladder: ${said}`);
  if (demand < 1.7 * cores)
    faults.push(`the ladder takes only ${round(demand / cores)} of the machine: give more --rungs`);
}

/** A ladder that fits until others want the machine. */
async function loaded() {
  const follow = await begin('show', ['1080p', '720p', '480p', '360p'], calmClip);
  const { page, errors, close } = await openPage(
    browser,
    `${broadcaster.url}/watch/show?quality=480p`,
  );
  await waitPlaying(page, 30_000);
  const watchers = watch('show', ['1080p', '720p', '360p']);
  await sleep(20_000);
  const before = await stats(page);
  if (before.quality !== '480p') faults.push(`the page plays ${String(before.quality)}, not 480p`);

  const stopLoad = busy(6 * cores);
  const began = Date.now();
  const gone = await eventually('the page’s quality to go', 60_000, async () => {
    const quality = (await of('show')).renditions.find((r) => r.id === '480p');
    return quality?.state === 'suspended' && quality;
  });
  const goneAfterS = (Date.now() - began) / 1_000;
  await sleep(20_000);
  const during = await stats(page);
  const speed = (await of('show')).speed;
  stopLoad();
  const ended = Date.now();
  await eventually('every quality back', 180_000, async () => {
    return (await of('show')).renditions.every((r) => r.state === 'live');
  });
  const backAfterS = (Date.now() - ended) / 1_000;
  await sleep(10_000);
  const after = await stats(page);
  figures.loaded = {
    reason: gone.reason,
    gone_after_s: round(goneAfterS),
    speed_under_load: speed,
    stalls_before: before.stalls,
    stalls_under_load: during.stalls - before.stalls,
    page_played: during.quality,
    back_after_s: round(backAfterS),
    max_allowed_s: BACK_WITHIN_S,
    stalls_after: after.stalls - during.stalls,
  };
  if (during.stalls !== before.stalls || after.stalls !== during.stalls)
    faults.push('the page stalled');
  if (during.quality === '480p') faults.push('the page does not say that it plays another quality');
  if (backAfterS > BACK_WITHIN_S) faults.push('not back in time');
  if (errors.length > 0) faults.push(`errors of the page: ${errors.join('; ')}`);
  await close();

  await noise(Number(values['noise-minutes']));
  watchers();
  const said = await follow.ends();
  figures.check_hls = said || 'silent';
  if (said) faults.push(`check-hls: ${said}`);
}

/** Others come and go, now little, now much, for moments or minutes. @param {number} minutes */
async function noise(minutes) {
  if (minutes === 0) return;
  let seed = Number(values.seed) >>> 0 || 1;
  const random = () => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed / 2 ** 32;
  };
  const first = (await resources()).changes.total;
  const end = Date.now() + minutes * 60_000;
  let bursts = 0;
  while (Date.now() < end) {
    const left = () => Math.max(0, end - Date.now());
    const stop = busy(1 + Math.floor(random() * 6 * cores));
    await sleep(Math.min(left(), 1_000 + random() * 59_000));
    stop();
    bursts += 1;
    await sleep(Math.min(left(), 1_000 + random() * 59_000));
  }
  const changes = (await resources()).changes.total - first;
  figures.noise = { minutes, bursts, seed: values.seed, changes, max_allowed: minutes };
  if (changes > minutes) faults.push('more than one change per minute');
}

/** Makes a stream of the clip and has it checked from its first playlist on. @param {string} name @param {unknown[]} ladder @param {string} [file] */
async function begin(name, ladder, file = clip) {
  await broadcaster.api('POST', '/streams', { name, source: `file:${file}`, repeat: true, ladder });
  const master = `${broadcaster.url}/live/${name}/master.m3u8`;
  await eventually(`${name} on the air`, 30_000, async () => (await fetch(master)).ok);
  const [command, ...args] = goesFirst([BINARY, 'check-hls', master, '--for', '24h']);
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.on('data', (chunk) => (said += String(chunk)));
  return {
    /** What it said until now. */
    ends: async () => {
      const gone = once(child, 'exit');
      child.kill('SIGINT');
      await gone;
      return said.trim();
    },
  };
}

/** Asks for playlists as viewers do, so that these qualities count as watched. @param {string} name @param {string[]} qualities */
function watch(name, qualities) {
  const timer = setInterval(() => {
    for (const id of qualities) {
      // What is away answers 404.
      void fetch(`${broadcaster.url}/live/${name}/${id}/media.m3u8`)
        .then((r) => r.text())
        .catch(() => '');
    }
  }, 2_000);
  return () => clearInterval(timer);
}

/** Processes that want all they can get. @param {number} count */
function busy(count) {
  const loops = Array.from({ length: count }, () =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
  return () => loops.forEach((loop) => loop.kill('SIGKILL'));
}

/** @param {string} id @param {number} height @param {number} fps @param {number} kbps */
function own(id, height, fps, kbps) {
  return { id, width: (height * 16) / 9, height, fps, video_kbps: kbps };
}

/** @returns {Promise<Resources>} */
async function resources() {
  return /** @type {Resources} */ (
    /** @type {unknown} */ (await broadcaster.api('GET', '/resources'))
  );
}

/** @param {string} name */
async function of(name) {
  const load = (await resources()).streams.find((s) => s.name === name);
  if (!load) throw new Error(`no stream ${name}`);
  return load;
}

/** @param {number} n */
function round(n) {
  return Math.round(n * 100) / 100;
}
