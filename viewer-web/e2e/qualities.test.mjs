/**
 * Several qualities at once, and switching between them: the counter in the picture and the media
 * time must keep their distance in every frame, whatever quality it came from.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { blockCodeClip } from './clip.mjs';
import {
  Broadcaster,
  createStream,
  Encoder,
  eventually,
  frames,
  openBrowser,
  openPage,
  record,
  stats,
  waitPlaying,
} from './harness.mjs';

/** @typedef {import('./harness.mjs').Page} Page */

const FPS = 30;
const SWITCHES = 6;

describe('two pages, two qualities', () => {
  /** @type {Broadcaster} */
  let broadcaster;
  /** @type {import('./harness.mjs').Browser} */
  let browser;
  /** @type {Encoder} */
  let encoder;

  before(async () => {
    const file = await blockCodeClip({
      width: 1920,
      height: 1080,
      fps: FPS,
      seconds: 90,
      kbps: 6_000,
    });
    browser = await openBrowser();
    broadcaster = await Broadcaster.start();
    const { stream_key: key } = await createStream(broadcaster, 'match', {
      ladder: ['source', '480p'],
    });
    encoder = new Encoder(file, `${broadcaster.rtmpUrl}/${key}`);
    encoder.start();
    await broadcaster.reaches('match', 'live');
  });

  after(async () => {
    await encoder.kill();
    await browser.close();
    await broadcaster.stop();
  });

  test('no frame is lost, repeated or mixed up by switching', async () => {
    const pages = await Promise.all(
      ['source', '480p'].map(async (quality) => {
        const { page } = await openPage(
          browser,
          `${broadcaster.url}/watch/match?quality=${quality}`,
        );
        await waitPlaying(page);
        await record(page);
        return { page, quality };
      }),
    );
    for (let i = 0; i < SWITCHES; i += 1) {
      await sleep(3_000);
      await Promise.all(
        pages.map(async (viewer) => {
          viewer.quality = viewer.quality === 'source' ? '480p' : 'source';
          await pick(viewer.page, viewer.quality);
        }),
      );
    }
    await sleep(2_000);
    for (const [i, { page }] of pages.entries()) {
      const { frames: shown, unread, dropped, total } = await frames(page);
      const numbers = await stats(page);
      const offsets = shown.map(({ counter, mediaS }) => counter - mediaS * FPS);
      const spread = Math.max(...offsets) - Math.min(...offsets);
      const counters = new Set(shown.map(({ counter }) => counter));
      const skipped = Math.max(...counters) - Math.min(...counters) + 1 - counters.size;
      console.log(
        `page ${i + 1}: ${shown.length} frames read, ${unread} unreadable, offset ${Math.round(offsets[0] ?? NaN)} ± ${(spread / 2).toFixed(3)} frames, ` +
          `${numbers.qualitySwitches} switches, ${numbers.stalls} stalls (${numbers.stalledS} s); ` +
          `not presented: ${skipped}, of which dropped by the decoder: ${dropped} of ${total}`,
      );
      assert.ok(shown.length > 100, 'frames were read');
      assert.equal(unread, 0, 'every frame carries its code');
      assert.ok(spread < 0.5, `counter − media time × ${FPS} is constant (spread ${spread})`);
      for (const [at, { counter }] of shown.entries()) {
        const before = shown[at - 1]?.counter ?? -1;
        // The same frame may be presented anew, at the same media time: the spread has shown that.
        assert.ok(counter >= before, `frame ${counter} after ${before}`);
      }
      assert.deepEqual(
        [...new Set(shown.map(({ width }) => width))].sort(),
        [1920, 854].sort(),
        'both qualities were shown',
      );
      assert.ok(numbers.qualitySwitches >= SWITCHES, 'every switch reached the screen');
    }
  });
});

/** Picks a quality by the menu, and waits until it is on screen. @param {Page} page @param {string} quality */
async function pick(page, quality) {
  // A moving pointer brings the controls.
  await page.mouse.move(400, 300);
  await page.mouse.move(420, 320);
  await page.locator('.menu-button').click();
  await page.locator(`[role=menuitemradio][data-id="${quality}"]`).click();
  await eventually(
    `${quality} on screen`,
    15_000,
    async () => (await stats(page)).quality === quality,
  );
}
