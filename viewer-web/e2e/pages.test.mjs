/** Every page in a real browser against the real broadcaster. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  AXE,
  Broadcaster,
  createStream,
  Encoder,
  eventually,
  frames,
  makeClip,
  openBrowser,
  openPage,
  record,
  stats,
  waitPlaying,
} from './harness.mjs';

/** @typedef {import('./harness.mjs').Page} Page */

/** @type {Broadcaster} */
let broadcaster;
/** @type {import('./harness.mjs').Browser} */
let browser;

before(async () => {
  browser = await openBrowser();
  broadcaster = await Broadcaster.start({ args: ['--demo'] });
  await broadcaster.reaches('demo', 'live');
});

after(async () => {
  await browser.close();
  await broadcaster.stop();
});

/** Opens a page for one test. @param {string} path @param {(page: Page) => Promise<void>} run @param {import('playwright-core').BrowserContextOptions} [options] */
async function visit(path, run, options) {
  const { page, errors, close } = await openPage(browser, broadcaster.url + path, options);
  try {
    await run(page);
    assert.deepEqual(errors, [], 'the page threw');
  } finally {
    await close();
  }
}

/** Fails on anything that WCAG 2.2 AA forbids and a program can see. @param {Page} page */
async function assertAccessible(page) {
  // Through the debugger: the page's security policy does not apply to it, as it does to scripts.
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const results = await window.axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    });
    return results.violations.map(
      ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`,
    );
  });
  assert.deepEqual(found, []);
}

/** @param {Page} page @param {string} text */
async function card(page, text) {
  await page.locator('.player .card-title', { hasText: text }).waitFor({ timeout: 15_000 });
}

describe('index', () => {
  test('lists the live stream with a picture and leads to it', () =>
    visit('/', async (page) => {
      const link = page.locator('a.stream-card[href="/watch/demo"]');
      await link.waitFor();
      await link.locator('.thumb img:not([hidden])').waitFor({ timeout: 30_000 });
      await assertAccessible(page);
      await link.click();
      await waitPlaying(page);
    }));
});

describe('watch', () => {
  test('plays: frame after frame, with the statistics of the interface', () =>
    visit('/watch/demo?p2p=off', async (page) => {
      await waitPlaying(page);
      await record(page);
      /** @type {import('./harness.mjs').Frame[]} */
      const shown = [];
      await eventually('frames with a block code', 15_000, async () => {
        shown.push(...(await frames(page)).frames);
        return shown.length > 30;
      });
      const counters = shown.map(({ counter }) => counter);
      assert.deepEqual(
        counters,
        [...counters].sort((a, b) => a - b),
        'frames in order',
      );
      assert.equal(new Set(counters).size, counters.length, 'no frame twice');
      const numbers = await stats(page);
      assert.deepEqual(Object.keys(numbers).sort(), STATS_FIELDS);
      assert.equal(numbers.p2p, 'off');
      assert.ok(numbers.bytesHttp > 0 && (numbers.latencyS ?? 0) > 0);
    }));

  test('changes the quality from its menu, by mouse and by keyboard', () =>
    visit('/watch/demo', async (page) => {
      await waitPlaying(page);
      const button = page.locator('.menu-button');
      await button.click();
      await page.locator('[role=menuitemradio]', { hasText: '360p' }).click();
      await eventually(
        '360p on screen',
        15_000,
        async () => (await stats(page)).quality === '360p',
      );
      await button.focus();
      await page.keyboard.press('Enter');
      await page.keyboard.press('ArrowUp');
      await page.keyboard.press('Enter');
      await eventually(
        '480p on screen',
        15_000,
        async () => (await stats(page)).quality === '480p',
      );
      assert.equal(await button.evaluate((element) => element === document.activeElement), true);
    }));

  test('pins the quality of the address', () =>
    visit('/watch/demo?quality=360p', async (page) => {
      await waitPlaying(page);
      assert.equal((await stats(page)).quality, '360p');
    }));

  test('obeys the keyboard', () =>
    visit('/watch/demo', async (page) => {
      await waitPlaying(page);
      const video = page.locator('video');
      await page.keyboard.press('k');
      assert.equal(await video.evaluate((v) => /** @type {HTMLVideoElement} */ (v).paused), true);
      await page.keyboard.press(' ');
      assert.equal(await video.evaluate((v) => /** @type {HTMLVideoElement} */ (v).paused), false);
      await page.keyboard.press('m');
      assert.equal(await video.evaluate((v) => /** @type {HTMLVideoElement} */ (v).muted), true);
      await page.keyboard.press('i');
      await page.locator('.stats-panel').waitFor();
      await page.keyboard.press('Shift+?');
      await page.locator('dialog.help[open]').waitFor();
      await page.keyboard.press('Escape');
      await page.keyboard.press('f');
      await page.waitForFunction(() => document.fullscreenElement !== null);
      await page.keyboard.press('f');
      await page.waitForFunction(() => document.fullscreenElement === null);
    }));

  test('rewinds and comes back to the live edge', () =>
    visit('/watch/demo', async (page) => {
      await waitPlaying(page);
      await page.locator('.live-badge[data-live="true"]').waitFor();
      await page.keyboard.press('ArrowLeft');
      const badge = page.locator('.live-badge', { hasText: 'Go to live' });
      await badge.waitFor();
      await badge.click();
      await page.locator('.live-badge[data-live="true"]').waitFor();
    }));

  test('starts without sound where the browser insists, and says so', async () => {
    const strict = await openBrowser({ sound: false });
    const { page } = await openPage(strict, `${broadcaster.url}/watch/demo`);
    try {
      await waitPlaying(page);
      const muted = () =>
        page.locator('video').evaluate((v) => /** @type {HTMLVideoElement} */ (v).muted);
      assert.equal(await muted(), true);
      await page.getByRole('button', { name: 'Turn sound on' }).first().click();
      assert.equal(await muted(), false);
    } finally {
      await strict.close();
    }
  });

  test('is accessible, in both colour schemes and on a phone', async () => {
    for (const options of [
      { colorScheme: /** @type {const} */ ('light') },
      { colorScheme: /** @type {const} */ ('dark'), viewport: { width: 360, height: 740 } },
    ]) {
      await visit(
        '/watch/demo',
        async (page) => {
          await waitPlaying(page);
          await page.keyboard.press('i');
          await assertAccessible(page);
          const overflows = await page.evaluate(
            () => document.documentElement.scrollWidth > innerWidth,
          );
          assert.equal(overflows, false, 'nothing sticks out sideways');
        },
        options,
      );
    }
  });

  test('waits for a publisher, and plays when there is one', async () => {
    const { stream_key: key } = await createStream(broadcaster, 'later');
    const encoder = new Encoder(await makeClip(broadcaster.data), `${broadcaster.rtmpUrl}/${key}`);
    try {
      await visit('/watch/later', async (page) => {
        await card(page, 'Waiting for the broadcaster');
        await assertAccessible(page);
        encoder.start();
        await waitPlaying(page);
        await page.locator('.card').waitFor({ state: 'hidden' });
      });
    } finally {
      await encoder.kill();
    }
    await broadcaster.api('DELETE', '/streams/later');
  });

  test('says that there is no such stream', () =>
    visit('/watch/nowhere', async (page) => {
      await card(page, 'No such stream');
      await assertAccessible(page);
      await page.locator('.card a', { hasText: 'All live streams' }).click();
      await page.waitForURL(`${broadcaster.url}/`);
    }));

  test('says when the broadcast has ended, replays what is left, and opens the next one', async () => {
    await createStream(broadcaster, 'short', { source: 'test', ladder: ['360p'] });
    await broadcaster.reaches('short', 'live');
    await visit('/watch/short', async (page) => {
      await waitPlaying(page);
      await broadcaster.api('POST', '/streams/short/stop');
      await card(page, 'The broadcast has ended');
      await assertAccessible(page);
      await page.locator('.card button', { hasText: 'Watch what is left' }).click();
      await page.waitForFunction(() => {
        const video = document.querySelector('video');
        return video && !video.paused && !video.ended;
      });
      await card(page, 'The broadcast has ended');
      await broadcaster.api('POST', '/streams/short/start');
      await page.locator('.card').waitFor({ state: 'hidden', timeout: 30_000 });
      await waitPlaying(page);
    });
    await broadcaster.api('DELETE', '/streams/short');
  });
});

describe('embed', () => {
  test('plays with nothing around it', () =>
    visit('/embed/demo', async (page) => {
      await waitPlaying(page);
      assert.equal(await page.locator('header').count(), 0);
      const box = await page.locator('.player').boundingBox();
      assert.deepEqual([box?.width, box?.height], [1280, 800]);
    }));
});

describe('studio', () => {
  test('asks for the token, refuses a wrong one, keeps it out of the address', () =>
    visit('/studio', async (page) => {
      await page.getByLabel('Admin token').fill('wrong');
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.getByText('does not accept this token').waitFor();
      await assertAccessible(page);
      await signIn(page);
      assert.ok(!page.url().includes(broadcaster.token));
    }));

  test('creates a stream and shows its key once', () =>
    visit('/studio', async (page) => {
      await signIn(page);
      await page.getByRole('link', { name: 'New stream' }).click();
      await page.getByLabel('Name').fill('made-here');
      await page.getByLabel('Title').fill('Made here');
      await assertAccessible(page);
      await page.getByRole('button', { name: 'Create stream' }).click();
      await page.getByRole('heading', { name: 'Made here' }).waitFor();
      const key = await page.locator('[data-secret] code').textContent();
      assert.ok(key && key.length >= 16, 'a key is shown');
      assert.match(
        (await page.locator('.publish code').first().textContent()) ?? '',
        /^rtmp:\/\/.*\/live$/,
      );
      await assertAccessible(page);
      await page.reload();
      await page.getByRole('button', { name: 'Make a new key' }).waitFor();
      assert.ok(!(await page.content()).includes(key), 'the key is gone');
      await page.getByRole('button', { name: 'Make a new key' }).click();
      await page.locator('dialog').getByRole('button', { name: 'Make a new key' }).click();
      const renewed = await page.locator('[data-secret] code').textContent();
      assert.notEqual(renewed, key);
      await page.getByRole('button', { name: 'Delete' }).click();
      await page.getByRole('button', { name: 'Delete the stream' }).click();
      await page.getByRole('heading', { name: 'Streams' }).waitFor();
      await page.locator('.stream-row', { hasText: 'Made here' }).waitFor({ state: 'detached' });
    }));

  test('shows preview, health, qualities and the machine, on a desk and on a phone', async () => {
    for (const viewport of [
      { width: 1280, height: 800 },
      { width: 390, height: 844 },
    ]) {
      await visit(
        '/studio#/demo',
        async (page) => {
          await signIn(page, 'Preview');
          await page.waitForFunction(() => (document.querySelector('video')?.currentTime ?? 0) > 0);
          await page.locator('.quality[data-quality="720p"] .badge', { hasText: 'Live' }).waitFor();
          await page.locator('.machine').getByRole('rowheader', { name: 'demo' }).waitFor();
          await assertAccessible(page);
          const overflows = await page.evaluate(
            () => document.documentElement.scrollWidth > innerWidth,
          );
          assert.equal(overflows, false, 'nothing sticks out sideways');
        },
        { viewport },
      );
    }
  });

  test('switches a quality off and on, and says so', () =>
    visit('/studio#/demo', async (page) => {
      await signIn(page, 'Preview');
      const card = page.locator('.quality[data-quality="360p"]');
      await card.locator('.badge', { hasText: 'Live' }).waitFor();
      const place = () =>
        page
          .locator('.machine')
          .evaluate((el) => Math.round(el.getBoundingClientRect().top + scrollY));
      const before = await place();
      await card.getByRole('switch', { name: 'On' }).click();
      await card.getByText('360p is switched off').waitFor();
      assert.equal(await place(), before, 'nothing jumps');
      await page.locator('.changes li', { hasText: 'demo 360p paused' }).first().waitFor();
      await card.getByRole('switch', { name: 'On' }).click();
      await card.locator('.badge', { hasText: 'Live' }).waitFor({ timeout: 15_000 });
      await card.getByLabel('Priority').selectOption('high');
      await eventually('the priority is kept', 5_000, async () => {
        const { renditions } = await broadcaster.api('GET', '/streams/demo');
        return renditions.some(({ id, priority }) => id === '360p' && priority === 'high');
      });
      const limits = page.getByRole('switch', { name: 'Let qualities be made on demand' });
      await limits.click();
      await page.reload();
      await limits.waitFor();
      await eventually('the limit is kept', 5_000, async () => !(await limits.isChecked()));
      await limits.click();
    }));
});

/** @param {Page} page @param {string} [heading] */
async function signIn(page, heading = 'Streams') {
  await page.getByLabel('Admin token').fill(broadcaster.token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: heading }).waitFor();
}

/** The fields of `window.shoal.stats()`, as docs/parts/viewer.md lists them. */
const STATS_FIELDS = [
  'bandwidthBps',
  'bufferS',
  'bytesHttp',
  'bytesPeer',
  'bytesPlayed',
  'bytesRoot',
  'bytesTurn',
  'bytesUploaded',
  'children',
  'firstFrameMs',
  'jitterMs',
  'latencyS',
  'lossRatio',
  'offload',
  'offloadTotal',
  'p2p',
  'parents',
  'peers',
  'quality',
  'qualitySwitches',
  'rejectedPieces',
  'rttMs',
  'stalledS',
  'stalls',
];
