/**
 * A hardware encoder that passes its trial and fails on the air: whoever watches goes on with what
 * the next encoder makes. The broadcaster is the program of `tests/encoders`, whose workers have
 * fakes for hardware.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
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

const FPS = 30;
/** The frame at which the fake fails: late enough that a page plays steadily by then. */
const FAILS_AT = 600;
/** Failing is noticed, and the next encoder begins, within this long after that frame. */
const OVER_MS = 40_000;
/** The next encoder's media is noticed, and gone over to, within this long. */
const BACK_MAX_MS = 15_000;
/** Nothing is made from the failure to the next segment, 2 s at most; the last picture stays. */
const GAP_MAX_S = 2.5;

/** @param {string} id @param {number} width @param {number} height */
const rung = (id, width, height) => ({ id, width, height, fps: FPS, video_kbps: 400 });
const LADDER = [rung('large', 640, 360), rung('small', 320, 180)];

describe('an encoder that dies on the air', () => {
  /** @type {import('./harness.mjs').Browser} */
  let browser;
  /** @type {string} */
  let program;
  const machine = mkdtempSync(join(tmpdir(), 'shoal-e2e-machine-'));

  before(async () => {
    program = await fakesProgram();
    mkdirSync(join(machine, 'dev/dri'), { recursive: true });
    writeFileSync(join(machine, 'dev/dri/renderD128'), '');
    const device = join(machine, 'sys/class/drm/renderD128/device');
    mkdirSync(device, { recursive: true });
    symlinkSync('drivers/i915', join(device, 'driver'));
    browser = await openBrowser();
  });

  after(async () => {
    await browser.close();
    rmSync(machine, { recursive: true });
  });

  test('costs who watches another quality nothing', () =>
    across(`dies@${FAILS_AT}/360`, 'small', ['large'], ({ stalls, longestGapS }) => {
      assert.equal(stalls, 0);
      assert.ok(longestGapS < 0.2, `no picture is missing, but ${longestGapS} s`);
    }));

  test('takes who watches it over to another quality and back, and no picture is missing', () =>
    across(`dies@${FAILS_AT}/360`, 'large', ['large'], ({ stalls, longestGapS }) => {
      assert.equal(stalls, 0);
      assert.ok(longestGapS < 0.2, `${longestGapS} s are missing`);
    }));

  test('goes on too when the device takes every quality with it', () =>
    across(`dies@${FAILS_AT}`, 'large', ['large', 'small'], ({ longestGapS }) => {
      assert.ok(longestGapS < GAP_MAX_S, `${longestGapS} s are missing`);
    }));

  /**
   * Watches a quality from before the failure until the next encoder is on the air.
   * @param {string} fault @param {string} quality @param {string[]} replaced
   * @param {(seen: { stalls: number, longestGapS: number }) => void} check
   */
  async function across(fault, quality, replaced, check) {
    const broadcaster = await Broadcaster.start({
      program,
      args: ['--machine-root', machine, '--degradation', 'false'],
      env: { SHOAL_FAKE_ENCODERS: `vah264enc=${fault}` },
    });
    try {
      await createStream(broadcaster, 'show', { source: 'test', ladder: LADDER });
      const made = async () =>
        (await broadcaster.api('GET', '/streams/show')).renditions
          .filter(({ kind }) => kind === 'video')
          .map(({ id, encoder }) => `${id} by ${encoder}`);
      const url = `${broadcaster.url}/watch/show?quality=${quality}`;
      await eventually('the stream', 20_000, async () => (await made()).length === LADDER.length);
      assert.deepEqual(await made(), ['large by vah264enc', 'small by vah264enc']);
      const { page, errors, close } = await openPage(browser, url);
      await waitPlaying(page);
      await record(page);
      await sleep(3_000);
      await frames(page);
      const before = await stats(page);
      assert.equal(before.quality, quality);
      const then = LADDER.map(
        ({ id }) => `${id} by ${replaced.includes(id) ? 'x264enc' : 'vah264enc'}`,
      );
      await eventually(
        'the next encoder',
        OVER_MS,
        async () => String(await made()) === String(then),
      );
      await sleep(3_000);
      await eventually('the picked quality', BACK_MAX_MS, async () => {
        return (await stats(page)).quality === quality;
      });
      await sleep(2_000);
      const { frames: shown, unread } = await frames(page);
      const now = await stats(page);
      const steps = shown.slice(1).map(({ counter }, i) => counter - (shown[i]?.counter ?? 0));
      const longest = Math.max(...steps);
      const longestGapS = longest / FPS;
      const offsets = shown.map(({ counter, mediaS }) => counter - mediaS * FPS);
      console.log(
        `${fault}, ${quality}: ${shown.length} frames read, ${unread} unreadable, longest gap ` +
          `${longestGapS.toFixed(3)} s after frame ${shown[steps.indexOf(longest)]?.counter}, ${now.stalls - before.stalls} stalls ` +
          `(${(now.stalledS - before.stalledS).toFixed(3)} s)`,
      );
      assert.ok(Number(shown.at(-1)?.counter) > FAILS_AT + 2 * FPS, 'frames of the next encoder');
      assert.ok(Math.min(...steps) > 0, 'frames in order, none twice');
      const first = offsets[0] ?? NaN;
      assert.ok(
        Math.abs((offsets.at(-1) ?? NaN) - first) < 0.5,
        'pictures keep their place in time',
      );
      check({ stalls: now.stalls - before.stalls, longestGapS });
      assert.deepEqual(errors, [], 'the page threw');
      await close();
    } catch (error) {
      throw new Error(`${String(error)}\n${broadcaster.log.slice(-3_000)}`, { cause: error });
    } finally {
      await broadcaster.stop();
    }
  }
});

/** Where cargo put the program with the fakes; built by the Rust tests already. */
async function fakesProgram() {
  const { stdout } = await promisify(execFile)(
    'cargo',
    ['test', '-p', 'broadcaster', '--test', 'encoders', '--no-run', '--message-format=json'],
    { cwd: resolve(import.meta.dirname, '../..'), maxBuffer: 64 << 20 },
  );
  for (const line of stdout.split('\n').reverse()) {
    if (!line.startsWith('{')) continue;
    /** @type {{ executable?: string | null, target?: { name: string } }} */
    const { executable, target } = JSON.parse(line);
    if (executable && target?.name === 'encoders') return executable;
  }
  throw new Error('cargo names no program for --test encoders');
}
