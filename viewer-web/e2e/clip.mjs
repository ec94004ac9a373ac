/**
 * Makes the clip that the tests publish: H.264 with the block code of the built-in test picture in
 * every frame, and AAC. Made once per set of settings, kept under `target/e2e`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { resolve } from 'node:path';
import { drawBlockCode } from './blockcode.mjs';

const FOLDER = resolve(import.meta.dirname, '../../target/e2e');

/**
 * @param {{ width: number, height: number, fps: number, seconds: number, kbps: number }} settings
 * @returns {Promise<string>} the file
 */
export async function blockCodeClip({ width, height, fps, seconds, kbps }) {
  const file = resolve(FOLDER, `clip-${width}x${height}-${fps}-${seconds}s-${kbps}k.mp4`);
  if (existsSync(file)) return file;
  mkdirSync(FOLDER, { recursive: true });
  // Under another name until it is whole.
  const unfinished = `${file}.${process.pid}.mp4`;
  const rate = `${kbps}k`;
  const args = ['-hide_banner', '-loglevel', 'error', '-nostdin', '-y'];
  args.push(
    '-f',
    'rawvideo',
    '-pix_fmt',
    'yuv420p',
    '-s',
    `${width}x${height}`,
    '-r',
    `${fps}`,
    '-i',
    'pipe:0',
  );
  args.push('-f', 'lavfi', '-t', `${seconds}`, '-i', 'sine=f=220:r=48000');
  args.push(
    '-c:v',
    'libx264',
    '-preset',
    'ultrafast',
    '-bf',
    '0',
    '-g',
    `${fps * 2}`,
    '-sc_threshold',
    '0',
  );
  args.push('-b:v', rate, '-maxrate', rate, '-bufsize', rate, '-nal-hrd', 'cbr');
  args.push('-c:a', 'aac', '-b:a', '128k', '-ac', '2', unfinished);
  const ffmpeg = spawn('ffmpeg', args, { stdio: ['pipe', 'ignore', 'inherit'] });
  const picture = background(width, height);
  for (let n = 0; n < seconds * fps; n += 1) {
    // The encoder may still hold the last frame: each is a copy.
    const frame = Buffer.from(picture);
    drawBlockCode(frame, width, height, { counter: n, clockMs: Math.round((n * 1_000) / fps) });
    drawBar(frame, width, height, n);
    if (!ffmpeg.stdin.write(frame)) await once(ffmpeg.stdin, 'drain');
  }
  ffmpeg.stdin.end();
  const [code] = /** @type {[number | null]} */ (await once(ffmpeg, 'exit'));
  if (code !== 0) throw new Error(`ffmpeg ended with ${String(code)}`);
  renameSync(unfinished, file);
  return file;
}

/** @param {number} width @param {number} height */
function background(width, height) {
  const frame = Buffer.alloc((width * height * 3) / 2, 128);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1)
      frame[y * width + x] = 40 + (x * 60) / width + (y * 60) / height;
  }
  return frame;
}

/** A bright bar that wanders, so that there is motion to see. @param {Buffer} frame @param {number} width @param {number} height @param {number} n */
function drawBar(frame, width, height, n) {
  const left = (n * 8) % (width - 64);
  for (let y = Math.floor(height / 2); y < height; y += 1)
    frame.fill(210, y * width + left, y * width + left + 64);
}
