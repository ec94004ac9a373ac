/**
 * Qualities that the broadcaster pauses and resumes, or makes only on demand: whoever watches one
 * goes on with another without a stall, and comes back.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Broadcaster,
  createStream,
  eventually,
  frames,
  openBrowser,
  openPage,
  record,
  stats,
  waitPlaying,
} from './harness.mjs';

/** @typedef {import('./harness.mjs').Page} Page */

const LADDER = ['480p', '360p', '240p'];
/** Frames of the test picture in a second. */
const FPS = 30;
/** A quality that was resumed must be there again after this long. */
const BACK_MAX_MS = 15_000;
/** With nothing to show, what is there again is found within this long. */
const FOUND_MAX_MS = 5_000;

describe('a quality that is paused', () => {
  /** @type {Broadcaster} */
  let broadcaster;
  /** @type {import('./harness.mjs').Browser} */
  let browser;

  before(async () => {
    browser = await openBrowser();
    broadcaster = await Broadcaster.start();
    // Only the tests switch qualities here, however slow the machine is.
    await broadcaster.api('PATCH', '/resources', { degradation: false });
    await createStream(broadcaster, 'show', { source: 'test', ladder: LADDER });
    await broadcaster.reaches('show', 'live');
    await eventually('every quality', 30_000, async () => (await states()).every(isLive));
  });

  after(async () => {
    await browser.close();
    await broadcaster.stop();
  });

  test('costs who left the choice to the player nothing', () =>
    watch('/watch/show', async (page) => {
      const quality = (await stats(page)).quality ?? '';
      assert.ok(LADDER.includes(quality), `${quality} is shown`);
      await withoutStall(page, async () => {
        await change(quality, { enabled: false });
        await shows(page, (now) => now !== quality);
        await item(page, quality, true);
        // Long enough to see that it is not tried again and again.
        await sleep(6_000);
        assert.notEqual((await stats(page)).quality, quality);
      });
      await withoutStall(page, async () => {
        await change(quality, { enabled: true });
        await item(page, quality, false);
        await shows(page, (now) => now === quality);
      });
    }));

  test('is replaced by the next lower one for who picked it, and picked again when it is back', () =>
    watch('/watch/show?quality=360p', async (page) => {
      assert.equal((await stats(page)).quality, '360p');
      await withoutStall(page, async () => {
        await change('360p', { enabled: false });
        await shows(page, (now) => now === '240p');
        await item(page, '360p', true);
        await page.locator('.toast', { hasText: '360p is paused' }).waitFor();
        const heard = await page.locator('.player [role=status]').textContent();
        assert.match(heard ?? '', /360p is paused/);
      });
      await withoutStall(page, async () => {
        await change('360p', { enabled: true });
        await shows(page, (now) => now === '360p');
        await item(page, '360p', false);
      });
      const { qualitySwitches } = await stats(page);
      assert.equal(qualitySwitches, 2, 'there and back, nothing else');
    }));

  test('is announced to who comes while it is paused, and shown once it is there', async () => {
    await change('480p', { enabled: false });
    await eventually('480p is away', 10_000, async () => !(await states()).every(isLive));
    await watch('/watch/show?quality=480p', async (page) => {
      await shows(page, (now) => now === '360p');
      await item(page, '480p', true);
      await change('480p', { enabled: true });
      await shows(page, (now) => now === '480p');
    });
  });

  test('costs nothing either when it is made on demand and has to wake up first', () =>
    watch('/watch/show?quality=480p', async (page) => {
      await change('240p', { encode: 'on_demand' });
      await eventually('240p sleeps', 40_000, async () =>
        (await states()).some(({ id, state }) => id === '240p' && state === 'suspended'),
      );
      // The page has had the time to read that it is not made.
      await sleep(6_000);
      await withoutStall(page, async () => {
        await item(page, '240p', false);
        await pick(page, '240p');
        await shows(page, (now) => now === '240p');
      });
      await change('240p', { encode: 'always' });
    }));

  test('is gone back to when all of them were gone for a while', () =>
    watch('/watch/show?quality=360p', async (page) => {
      const playlists = /\/live\/show\/\d+p\/media\.m3u8/;
      await page.route(playlists, (route) => route.fulfill({ status: 404 }));
      await eventually('nothing is left to play', 15_000, async () => {
        return (await stats(page)).bufferS < 0.1;
      });
      await sleep(3_000);
      await page.unroute(playlists);
      await frames(page);
      await eventually('pictures again', FOUND_MAX_MS, async () => {
        return (await frames(page)).frames.length > 0;
      });
      await shows(page, (now) => now === '360p');
    }));

  /** @param {string} id @param {object} body */
  function change(id, body) {
    return broadcaster.api('PATCH', `/streams/show/renditions/${id}`, body);
  }

  async function states() {
    const { renditions } = await broadcaster.api('GET', '/streams/show');
    return renditions.filter(({ kind }) => kind === 'video');
  }

  /** A page that plays steadily. @param {string} path @param {(page: Page) => Promise<void>} run */
  async function watch(path, run) {
    const { page, errors, close } = await openPage(browser, broadcaster.url + path);
    try {
      await waitPlaying(page);
      await record(page);
      await sleep(4_000);
      await run(page).catch(async (/** @type {unknown} */ error) => {
        const now = JSON.stringify({ page: await stats(page), states: await states() });
        throw new Error(`${String(error)}\n${now}\n${broadcaster.log.slice(-2_000)}`);
      });
      assert.deepEqual(errors, [], 'the page threw');
    } finally {
      await close();
    }
  }
});

/** @param {{ state: string }} rendition */
function isLive({ state }) {
  return state === 'live';
}

/** Fails when the picture stands still meanwhile, or jumps. @param {Page} page @param {() => Promise<void>} run */
async function withoutStall(page, run) {
  const before = await stats(page);
  await frames(page);
  await run();
  await sleep(3_000);
  const { frames: shown, unread } = await frames(page);
  const { stalls, stalledS, quality } = await stats(page);
  const counters = shown.map(({ counter }) => counter);
  const offsets = shown.map(({ counter, mediaS }) => counter - mediaS * FPS);
  const spread = Math.max(...offsets) - Math.min(...offsets);
  const longest = Math.max(
    ...shown.slice(1).map(({ shownMs }, i) => shownMs - (shown[i]?.shownMs ?? shownMs)),
  );
  console.log(
    `${before.quality} to ${quality}: ${shown.length} frames read, ${unread} unreadable, ` +
      `spread ${spread.toFixed(3)}, longest ${longest.toFixed(0)} ms, ` +
      `${stalls - before.stalls} stalls (${(stalledS - before.stalledS).toFixed(3)} s)`,
  );
  assert.equal(stalls, before.stalls, 'no stall');
  assert.ok(shown.length > 30, 'frames were read');
  assert.ok(spread < 0.5, `the picture keeps its place in time (spread ${spread})`);
  assert.deepEqual(
    counters,
    [...counters].sort((a, b) => a - b),
    'frames in order',
  );
}

/** Waits until the shown quality is as wanted. @param {Page} page @param {(quality: string | null) => boolean} wanted */
function shows(page, wanted) {
  return eventually('another quality on screen', BACK_MAX_MS, async () =>
    wanted((await stats(page)).quality),
  );
}

/** Waits until the menu shows a quality, as paused or not. @param {Page} page @param {string} quality @param {boolean} paused */
async function item(page, quality, paused) {
  const state = paused ? '[aria-disabled=true]' : ':not([aria-disabled])';
  const choice = page.locator(`[role=menuitemradio][data-id="${quality}"]${state}`);
  await choice.waitFor({ state: 'attached', timeout: BACK_MAX_MS });
  assert.equal((await choice.textContent())?.includes('paused'), paused);
}

/** @param {Page} page @param {string} quality */
async function pick(page, quality) {
  // A moving pointer brings the controls.
  await page.mouse.move(400, 300);
  await page.mouse.move(420, 320);
  await page.locator('.menu-button').click();
  await page.locator(`[role=menuitemradio][data-id="${quality}"]`).click();
}
