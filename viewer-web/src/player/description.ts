/** Reads `info.json`, the broadcaster's word about a stream, and from its answers the server's clock. */
import type { ViewerOptions } from './api';
import { ServerClock } from './clock';
import { parseInfo, type StreamInfo } from './info';

/** How long an answer may take. */
const TIMEOUT_MS = 4_000;

/** `missing`: there is no stream of this name. `unreachable`: no answer, or not one to make sense of. */
export type InfoOutcome = StreamInfo | 'missing' | 'unreachable';

export class Description {
  readonly clock = new ServerClock();
  readonly #url: string | null;
  #asking = false;

  constructor({ src, info }: Pick<ViewerOptions, 'src' | 'info'>) {
    this.#url = info === undefined ? infoBeside(src) : info;
  }

  /** Whether there is anything to ask. */
  get exists(): boolean {
    return this.#url !== null;
  }

  /** Asks once at a time; null when there is nothing to ask, or an answer is on its way already. */
  async ask(): Promise<InfoOutcome | null> {
    if (this.#url === null || this.#asking) return null;
    this.#asking = true;
    const sentMs = Date.now();
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await fetch(this.#url, { signal, cache: 'no-store' });
      const date = Date.parse(response.headers.get('date') ?? '');
      this.clock.handleAnswer(date, sentMs, Date.now());
      const info = response.ok ? parseInfo(await response.json()) : null;
      return response.status === 404 ? 'missing' : (info ?? 'unreachable');
    } catch {
      return 'unreachable';
    } finally {
      this.#asking = false;
    }
  }
}

function infoBeside(src: string): string | null {
  return /\/master\.m3u8(?:[?#]|$)/.test(src)
    ? src.replace(/\/master\.m3u8.*$/, '/info.json')
    : null;
}
