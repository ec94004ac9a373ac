/**
 * What every browser test needs: the real broadcaster on ports of its own, a Chromium, an encoder,
 * and a probe that reads the block code of presented frames. Everything is stopped by pid.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { readBlockCode } from './blockcode.mjs';

const HERE = import.meta.dirname;
export const BINARY = process.env.SHOAL_BIN ?? resolve(HERE, '../../target/debug/broadcaster');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const ADMIN_TOKEN = 'e2e-token-that-is-long-enough-for-anyone';

/** @typedef {import('playwright-core').Page} Page */
/** @typedef {import('playwright-core').Browser} Browser */
/** @typedef {import('node:child_process').ChildProcess} ChildProcess */

/**
 * What the tests read of the API's answers; null after a DELETE.
 * @typedef {{ state: string, stream_key: string, session: number, worker: { pid: number } | null, renditions: { id: string, kind: string, state: string, encoder: string, priority?: string }[] }} ApiStream
 */

/** Every process started here, for the case that a test dies before it stops them. */
const children = new Set(/** @type {ChildProcess[]} */ ([]));
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** @param {string} command @param {string[]} args @param {import('node:child_process').SpawnOptions} options */
function start(command, args, options) {
  const child = spawn(command, args, options);
  children.add(child);
  child.on('exit', () => children.delete(child));
  return child;
}

/** Sends a signal and waits for the end; SIGKILL when that takes too long. @param {ChildProcess} child @param {NodeJS.Signals} signal */
async function end(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill(signal);
  const hung = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await gone;
  clearTimeout(hung);
}

/** Ports that were free a moment ago. @param {number} count */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map(
    (server) => /** @type {import('node:net').AddressInfo} */ (server.address()).port,
  );
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return /** @type {[number, number, number, ...number[]]} */ (ports);
}

/**
 * Asks until `check` gives something true.
 * @template T
 * @param {string} what
 * @param {number} withinMs
 * @param {() => Promise<T | false> | T | false} check
 * @returns {Promise<T>}
 */
export async function eventually(what, withinMs, check) {
  const end = Date.now() + withinMs;
  let last;
  do {
    try {
      last = await check();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    await sleep(100);
  } while (Date.now() < end);
  throw new Error(`${what}: not within ${withinMs} ms (last: ${String(last)})`);
}

/** A broadcaster with a data folder of its own. */
export class Broadcaster {
  /** @type {ChildProcess | null} */
  #child = null;
  #log = '';
  #program;
  #args;
  #env;
  #data = mkdtempSync(join(tmpdir(), 'shoal-e2e-'));
  /** @type {[number, number, number, ...number[]]} */
  #ports;

  /** @param {[number, number, number, ...number[]]} ports @param {{ program?: string, args?: string[], env?: Record<string, string> }} options */
  constructor(ports, { program = BINARY, args = [], env = {} }) {
    this.#ports = ports;
    this.#program = program;
    this.#args = args;
    this.#env = env;
  }

  /** @param {{ program?: string, args?: string[], env?: Record<string, string> }} [options] */
  static async start(options = {}) {
    const broadcaster = new Broadcaster(await freePorts(3), options);
    await broadcaster.run();
    return broadcaster;
  }

  /** A folder that goes with it. */
  get data() {
    return this.#data;
  }

  get url() {
    return `http://127.0.0.1:${this.#ports[0]}`;
  }

  get rtmpUrl() {
    return `rtmp://127.0.0.1:${this.#ports[2]}/live`;
  }

  get token() {
    return ADMIN_TOKEN;
  }

  /** Starts it, on the same ports and data as before. */
  async run() {
    const [http, admin, rtmp] = this.#ports;
    this.#child = start(
      this.#program,
      ['serve', '--http', `127.0.0.1:${http}`, '--admin', `127.0.0.1:${admin}`]
        .concat(['--rtmp', `127.0.0.1:${rtmp}`, '--data', this.#data])
        .concat(this.#args),
      {
        env: {
          ...process.env,
          SHOAL_ADMIN_TOKEN: ADMIN_TOKEN,
          SHOAL_ADMISSION: 'false',
          ...this.#env,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (chunk) => {
        this.#log = (this.#log + String(chunk)).slice(-20_000);
      });
    }
    await eventually(`broadcaster at ${this.url} ready`, 20_000, async () => {
      if (this.#child?.exitCode !== null) throw new Error(`exited: ${this.#log}`);
      return (await fetch(`${this.url}/healthz`)).ok;
    }).catch((/** @type {unknown} */ error) => {
      throw new Error(`${String(error)}\n${this.#log}`);
    });
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal = 'SIGTERM') {
    const child = this.#child;
    this.#child = null;
    if (child) await end(child, signal);
  }

  async stop() {
    await this.end();
    rmSync(this.#data, { recursive: true, force: true });
  }

  get log() {
    return this.#log;
  }

  /**
   * The API, with the token.
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @returns {Promise<ApiStream>}
   */
  async api(method, path, body) {
    const response = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_TOKEN}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return /** @type {ApiStream} */ (JSON.parse(text || 'null'));
  }

  /** Waits until a stream is in a state. @param {string} name @param {string} state @param {number} [withinMs] */
  async reaches(name, state, withinMs = 20_000) {
    return eventually(`${name} ${state}`, withinMs, async () => {
      const stream = await this.api('GET', `/streams/${name}`);
      return stream.state === state && stream;
    }).catch((/** @type {unknown} */ error) => {
      throw new Error(`${String(error)}\n${this.#log}`);
    });
  }
}

/**
 * ffmpeg that sends a ready-made file in real time, again and again, and connects again when it is
 * refused or cut off, as an encoder does.
 */
export class Encoder {
  /** @type {ChildProcess | null} */
  #child = null;
  #on = false;
  #file;
  #target;

  /** @param {string} file @param {string} target */
  constructor(file, target) {
    this.#file = file;
    this.#target = target;
  }

  start() {
    this.#on = true;
    const args = ['-hide_banner', '-loglevel', 'fatal', '-nostdin', '-re', '-stream_loop', '-1'];
    args.push('-i', this.#file, '-c', 'copy', '-f', 'flv', this.#target);
    const child = start('ffmpeg', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    child.on('exit', () => {
      setTimeout(() => {
        if (this.#on && this.#child === child) this.start();
      }, 1_000);
    });
    this.#child = child;
  }

  /** Ends it, as a crash would. */
  async kill() {
    this.#on = false;
    if (this.#child) await end(this.#child, 'SIGKILL');
    this.#child = null;
  }
}

/**
 * A short clip of moving bars and a tone, as an encoder would send it.
 * @param {string} folder
 */
export async function makeClip(folder) {
  const file = join(folder, 'clip.mp4');
  const args = ['-hide_banner', '-loglevel', 'error', '-nostdin', '-y'];
  args.push('-f', 'lavfi', '-i', 'testsrc2=s=640x360:r=30', '-f', 'lavfi', '-i', 'sine=r=48000');
  args.push('-t', '20', '-c:v', 'libx264', '-preset', 'ultrafast', '-bf', '0', '-g', '60');
  args.push('-pix_fmt', 'yuv420p', '-c:a', 'aac', file);
  await run('ffmpeg', args);
  return file;
}

/** Runs a command to its end. @param {string} command @param {string[]} args */
export async function run(command, args) {
  const child = start(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = /** @type {[number | null]} */ (await once(child, 'exit'));
  if (code !== 0) throw new Error(`${command} ended with ${String(code)}`);
}

/**
 * A command that gets the processor before others where that is allowed.
 * @param {[string, ...string[]]} command
 * @returns {[string, ...string[]]}
 */
export function goesFirst(command) {
  return process.getuid?.() === 0 ? ['nice', '-n', '-10', ...command] : command;
}

/** A program that starts Chromium so that it goes first. */
function firstChromium() {
  const folder = mkdtempSync(join(tmpdir(), 'shoal-chromium-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'chromium');
  writeFileSync(file, `#!/bin/sh\nexec ${goesFirst([CHROMIUM]).join(' ')} "$@"\n`, { mode: 0o755 });
  return file;
}

/**
 * A Chromium without sandbox and background traffic.
 * @param {{ sound?: boolean, first?: boolean }} [options] whether pages may start with sound, unasked; whether it gets the processor before others
 */
export function openBrowser({ sound = true, first = false } = {}) {
  return chromium.launch({
    executablePath: first ? firstChromium() : CHROMIUM,
    args: [
      '--headless=new',
      '--no-sandbox',
      `--autoplay-policy=${sound ? 'no-user-gesture-required' : 'document-user-activation-required'}`,
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
      '--disable-quic',
      '--disable-background-timer-throttling',
      '--disable-renderer-backgrounding',
      '--disable-backgrounding-occluded-windows',
    ],
  });
}

/**
 * A page of its own context, with the probe in it. Errors of the page fail the test that looks at
 * `errors`. @param {Browser} browser @param {string} url @param {import('playwright-core').BrowserContextOptions} [options]
 */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  await context.addInitScript({
    content: `${readBlockCode.toString()}\n(${installProbe.toString()})()`,
  });
  const page = await context.newPage();
  /** @type {string[]} */
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(url, { waitUntil: 'commit' });
  return { page, errors, close: () => context.close() };
}

/** @param {Page} page */
export function stats(page) {
  return page.evaluate(() => {
    if (!window.shoal) throw new Error('the page has no window.shoal');
    return window.shoal.stats();
  });
}

/**
 * Waits until the picture moves. Looks through the debugger: what Playwright evaluates counts as a
 * user's gesture, and a page that was touched may start with sound.
 * @param {Page} page @param {number} [withinMs]
 */
export async function waitPlaying(page, withinMs = 20_000) {
  const debug = await page.context().newCDPSession(page);
  const expression = `(${isPlaying.toString()})()`;
  await eventually('a moving picture', withinMs, async () => {
    const { result } = await debug.send('Runtime.evaluate', { expression, returnByValue: true });
    return result.value === true;
  });
  await debug.detach();
}

/** Runs inside the page. */
function isPlaying() {
  const video = document.querySelector('video');
  return (
    video !== null &&
    !video.paused &&
    video.currentTime > 0 &&
    video.readyState >= 3 &&
    typeof window.shoal?.stats().firstFrameMs === 'number'
  );
}

/**
 * One presented frame: its number in the picture, its clock, its media time and what the page knew.
 * @typedef {{ counter: number, clockMs: number, mediaS: number, shownMs: number, width: number }} Frame
 */

/** Starts recording presented frames. @param {Page} page */
export function record(page) {
  return page.evaluate(() => window.probe.start());
}

/** Frames since the last call. @param {Page} page @returns {Promise<{ frames: Frame[], unread: number, dropped: number, total: number }>} */
export function frames(page) {
  return page.evaluate(() => window.probe.take());
}

/** Runs inside the page: reads the block code of every frame that is presented. */
function installProbe() {
  const WIDTH = 256;
  const HEIGHT = 32;
  /** @type {Frame[]} */
  let taken = [];
  let unread = 0;
  let running = false;
  let presented = 0;
  let lookedAt = -1;
  const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
    canvas.getContext('2d', { willReadFrequently: true })
  );

  /** @param {HTMLVideoElement} video @param {VideoFrameCallbackMetadata} metadata */
  function look(video, metadata) {
    // A frame of its own: its timestamp and its pixels cannot belong to two different frames.
    const frame = new VideoFrame(video);
    const { timestamp, displayWidth, displayHeight } = frame;
    context.drawImage(frame, 0, 0, displayWidth, displayHeight / 10, 0, 0, WIDTH, HEIGHT);
    frame.close();
    // A late callback finds the frame of the one before: the same picture at the same media time.
    if (timestamp === lookedAt) return;
    lookedAt = timestamp;
    const { data } = context.getImageData(0, 0, WIDTH, HEIGHT);
    const code = readBlockCode((x, y) => data[(y * WIDTH + x) * 4 + 1] ?? 0, WIDTH, HEIGHT);
    if (code === null) {
      unread += 1;
      return;
    }
    const shownMs = performance.timeOrigin + metadata.expectedDisplayTime;
    taken.push({ ...code, mediaS: timestamp / 1e6, shownMs, width: displayWidth });
  }

  // Counted from the first video on, whether frames are recorded or not.
  const wait = setInterval(() => {
    const video = document.querySelector('video');
    if (!video) return;
    clearInterval(wait);
    const count = () => {
      presented += 1;
      video.requestVideoFrameCallback(count);
    };
    video.requestVideoFrameCallback(count);
  }, 20);

  window.probe = {
    presented: () => presented,
    start() {
      if (running) return;
      running = true;
      const video = document.querySelector('video');
      if (!video) throw new Error('the page has no video');
      /** @param {number} _now @param {VideoFrameCallbackMetadata} metadata */
      const next = (_now, metadata) => {
        video.requestVideoFrameCallback(next);
        look(video, metadata);
      };
      video.requestVideoFrameCallback(next);
    },
    take() {
      const quality = document.querySelector('video')?.getVideoPlaybackQuality();
      const answer = {
        frames: taken,
        unread,
        dropped: quality?.droppedVideoFrames ?? 0,
        total: quality?.totalVideoFrames ?? 0,
      };
      taken = [];
      unread = 0;
      return answer;
    },
  };
}

/** The middle one. @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

/** Key and server of a new stream, started. @param {Broadcaster} broadcaster @param {string} name @param {object} [more] */
export async function createStream(broadcaster, name, more = {}) {
  return broadcaster.api('POST', '/streams', {
    name,
    title: `Stream ${name}`,
    source: 'rtmp',
    ladder: 'passthrough',
    ...more,
  });
}

/** The source of axe-core, for pages. */
export const AXE = readFileSync(resolve(HERE, '../node_modules/axe-core/axe.min.js'), 'utf8');
