/** The player goes on by itself after whatever happens behind it, in one page that never reloads. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  Broadcaster,
  createStream,
  Encoder,
  eventually,
  makeClip,
  openBrowser,
  openPage,
  stats,
  waitPlaying,
} from './harness.mjs';

/** The picture must move again this long after the stream is back. */
const RESUME_MAX_MS = 10_000;

describe('one page through every interruption', () => {
  /** @type {Broadcaster} */
  let broadcaster;
  /** @type {import('./harness.mjs').Browser} */
  let browser;
  /** @type {import('./harness.mjs').Page} */
  let page;
  /** @type {Encoder} */
  let encoder;

  before(async () => {
    browser = await openBrowser();
    broadcaster = await Broadcaster.start();
    const { stream_key: key } = await createStream(broadcaster, 'show', {
      ladder: ['source', '360p'],
    });
    encoder = new Encoder(await makeClip(broadcaster.data), `${broadcaster.rtmpUrl}/${key}`);
    encoder.start();
    await broadcaster.reaches('show', 'live');
    ({ page } = await openPage(browser, `${broadcaster.url}/watch/show`));
    await waitPlaying(page);
    await page.evaluate(() => {
      document.documentElement.dataset.opened = 'once';
    });
  });

  after(async () => {
    await encoder.kill();
    await browser.close();
    await broadcaster.stop();
  });

  test('the encoder is away for 20 s', async () => {
    await encoder.kill();
    await page.locator('.card', { hasText: 'lost its connection' }).waitFor({ timeout: 15_000 });
    await sleep(20_000);
    encoder.start();
    await resumed();
  });

  test('the encoder is away for 1 s', async () => {
    await encoder.kill();
    await sleep(1_000);
    encoder.start();
    await resumed();
  });

  test('the worker is killed', async () => {
    const { worker } = await broadcaster.api('GET', '/streams/show');
    assert.ok(worker);
    process.kill(worker.pid, 'SIGKILL');
    await eventually('a new worker', 10_000, async () => {
      const now = await broadcaster.api('GET', '/streams/show');
      return now.worker !== null && now.worker.pid !== worker.pid;
    });
    await resumed();
  });

  test('the broadcaster is restarted', async () => {
    await broadcaster.end();
    // It says so to who asks in its last moments; others find nobody.
    const card = page.locator('.card', { hasText: /Reconnecting|The broadcaster is restarting/ });
    await card.waitFor({ timeout: 20_000 });
    await sleep(3_000);
    await broadcaster.run();
    await resumed();
  });

  test('the viewer has no network for 10 s', async () => {
    await page.context().setOffline(true);
    await page.locator('.card', { hasText: 'Reconnecting' }).waitFor({ timeout: 20_000 });
    await sleep(10_000);
    await page.context().setOffline(false);
    await resumed();
  });

  /** The same page shows new pictures of the live stream. */
  async function resumed() {
    await broadcaster.reaches('show', 'live');
    const before = await shown();
    await eventually(
      'the picture moves',
      RESUME_MAX_MS,
      async () => (await shown()) > before + 30,
    ).catch(async (/** @type {unknown} */ error) => {
      throw new Error(`${String(error)}\n${await situation()}\n${broadcaster.log.slice(-3_000)}`);
    });
    await page.locator('.card').waitFor({ state: 'hidden' });
    await eventually(
      'close to the live edge',
      15_000,
      async () => ((await stats(page)).latencyS ?? 99) < 6,
    );
    const opened = await page.evaluate(() => document.documentElement.dataset.opened);
    assert.equal(opened, 'once', 'the page was not loaded again');
  }

  /** What a failure leaves to look at. */
  async function situation() {
    const player = await page.evaluate(() => {
      const video = document.querySelector('video');
      const buffered = Array.from({ length: video?.buffered.length ?? 0 }, (_, i) => [
        video?.buffered.start(i),
        video?.buffered.end(i),
      ]);
      return {
        phase: document.querySelector('.player')?.getAttribute('data-phase'),
        card: document.querySelector('.card')?.textContent,
        at: video?.currentTime,
        rate: video?.playbackRate,
        paused: video?.paused,
        ready: video?.readyState,
        seeking: video?.seeking,
        buffered,
        stats: window.shoal?.stats(),
      };
    });
    const { state, session, worker } = await broadcaster.api('GET', '/streams/show');
    return JSON.stringify({ player, stream: { state, session, worker } });
  }

  /** Frames shown so far, over all sources. */
  function shown() {
    return page.evaluate(() => window.probe.presented());
  }
});
