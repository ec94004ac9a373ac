import { describe, expect, it } from 'vitest';
import { crc16, drawBlockCode, readBlockCode } from './blockcode.mjs';

/** The top tenth as the test picture draws it. */
function draw(
  counter: number,
  clockMs: number,
  width: number,
  height: number,
): (x: number, y: number) => number {
  const luma = new Uint8Array(width * height * 10);
  drawBlockCode(luma, width, height * 10, { counter, clockMs });
  return (x, y) => luma[y * width + x] ?? 0;
}

describe('readBlockCode', () => {
  it('checks with the usual CRC', () => {
    expect(crc16(Array.from('123456789', (c) => c.charCodeAt(0)))).toBe(0x29b1);
  });

  it('reads back every size and number', () => {
    for (const [width, height] of [
      [256, 32],
      [1280, 72],
      [1920, 108],
      [426, 24],
    ] as const) {
      for (const [counter, clockMs] of [
        [0, 0],
        [123_456, 1_900_000_000_123],
        [4_294_967_295, 2 ** 48 - 1],
      ] as const) {
        expect(readBlockCode(draw(counter, clockMs, width, height), width, height)).toEqual({
          counter,
          clockMs,
        });
      }
    }
  });

  it('reads through noise, as an encoder leaves it', () => {
    const clean = draw(77, 1_900_000_000_000, 256, 32);
    const noisy = (x: number, y: number): number => clean(x, y) + ((x * 7 + y * 13) % 61) - 30;
    expect(readBlockCode(noisy, 256, 32)?.counter).toBe(77);
  });

  it('takes no number from a picture with one damaged cell', () => {
    const clean = draw(77, 1_900_000_000_000, 256, 32);
    const damaged = (x: number, y: number): number =>
      x >= 200 && x < 208 && y >= 8 && y < 16 ? 251 - clean(x, y) : clean(x, y);
    expect(readBlockCode(damaged, 256, 32)).toBeNull();
  });

  it('takes no number from another picture', () => {
    expect(readBlockCode(() => 128, 256, 32)).toBeNull();
    expect(readBlockCode((x, y) => (x * y) % 256, 256, 32)).toBeNull();
  });
});
