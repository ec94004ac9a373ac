/** The last measured bandwidth, kept between visits so that the next one begins with the right quality. */

const BANDWIDTH_KEY = 'shoal.bandwidth';

/** What was measured at the last visit, in bits per second; null for the first. */
export function rememberedBandwidth(): number | null {
  try {
    const value = Number(localStorage.getItem(BANDWIDTH_KEY));
    return value > 0 ? value : null;
  } catch {
    return null;
  }
}

/** Keeps what was measured, in bits per second, for the next visit. */
export function rememberBandwidth(bps: number): void {
  if (bps <= 0) return;
  try {
    localStorage.setItem(BANDWIDTH_KEY, String(bps));
  } catch {
    // Storage is a convenience; some embeddings forbid it.
  }
}
