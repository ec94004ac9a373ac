/**
 * Reads the block code of the built-in test picture: frame counter and wall clock in the top tenth
 * of the picture. Layout: broadcaster/src/worker/testcard.rs. Self-contained, because it also runs
 * inside pages.
 *
 * @param {(x: number, y: number) => number} brightnessAt brightness 0-255 of a pixel
 * @param {number} width of the top tenth, in pixels
 * @param {number} height of the top tenth, in pixels
 * @returns {{ counter: number, clockMs: number } | null} null when it is not there or not intact
 */
export function readBlockCode(brightnessAt, width, height) {
  const COLUMNS = 32;
  const ROWS = 4;
  const SYNC = 0xb4e1;
  const MIDDLE = 126;
  /** @type {number[]} */
  const words = [];
  for (let row = 0; row < ROWS; row += 1) {
    for (let half = 0; half < 2; half += 1) {
      let word = 0;
      for (let column = half * 16; column < half * 16 + 16; column += 1) {
        const x0 = Math.floor(((4 * column + 1) * width) / (4 * COLUMNS));
        const x1 = Math.max(x0 + 1, Math.floor(((4 * column + 3) * width) / (4 * COLUMNS)));
        const y0 = Math.floor(((4 * row + 1) * height) / (4 * ROWS));
        const y1 = Math.max(y0 + 1, Math.floor(((4 * row + 3) * height) / (4 * ROWS)));
        let sum = 0;
        for (let y = y0; y < y1; y += 1) for (let x = x0; x < x1; x += 1) sum += brightnessAt(x, y);
        word = word * 2 + (sum > MIDDLE * (x1 - x0) * (y1 - y0) ? 1 : 0);
      }
      words.push(word);
    }
  }
  const [sync, check, counterHigh, counterLow, clock2, clock1, clock0, inverted] =
    /** @type {[number, number, number, number, number, number, number, number]} */ (words);
  let crc = 0xffff;
  for (const word of words.slice(2)) {
    for (const byte of [word >> 8, word & 0xff]) {
      crc ^= byte << 8;
      for (let bit = 0; bit < 8; bit += 1)
        crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
    }
  }
  if (sync !== SYNC || check !== crc || inverted !== (~counterLow & 0xffff)) return null;
  return {
    counter: counterHigh * 0x1_0000 + counterLow,
    clockMs: clock2 * 0x1_0000_0000 + clock1 * 0x1_0000 + clock0,
  };
}

/**
 * Draws the block code into the luma of a picture, as the broadcaster's test source does.
 *
 * @param {Uint8Array} luma rows of `width` bytes
 * @param {number} width
 * @param {number} height of the whole picture
 * @param {{ counter: number, clockMs: number }} reading
 */
export function drawBlockCode(luma, width, height, { counter, clockMs }) {
  const data = [
    Math.floor(counter / 0x1_0000),
    counter % 0x1_0000,
    Math.floor(clockMs / 0x1_0000_0000),
    Math.floor(clockMs / 0x1_0000) % 0x1_0000,
    clockMs % 0x1_0000,
    0xffff - (counter % 0x1_0000),
  ];
  const words = [0xb4e1, crc16(data.flatMap((word) => [word >> 8, word & 0xff])), ...data];
  for (let row = 0; row < 4; row += 1) {
    for (
      let y = Math.floor((row * height) / 40);
      y < Math.floor(((row + 1) * height) / 40);
      y += 1
    ) {
      for (let column = 0; column < 32; column += 1) {
        const word = words[row * 2 + (column >> 4)] ?? 0;
        const shade = (word >> (15 - (column % 16))) & 1 ? 235 : 16;
        luma.fill(
          shade,
          y * width + Math.floor((column * width) / 32),
          y * width + Math.floor(((column + 1) * width) / 32),
        );
      }
    }
  }
}

/** CRC-16/CCITT-FALSE. @param {readonly number[]} bytes */
export function crc16(bytes) {
  return bytes.reduce((crc, byte) => {
    let next = crc ^ (byte << 8);
    for (let bit = 0; bit < 8; bit += 1)
      next = ((next << 1) ^ (next & 0x8000 ? 0x1021 : 0)) & 0xffff;
    return next;
  }, 0xffff);
}
