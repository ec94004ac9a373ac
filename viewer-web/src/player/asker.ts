/** Asks for playlists beside the player, to learn what is there before it is needed. */
import { renditionsIn } from './path';

/** A quality that is made on demand answers within 9 s, or says that it does not come. */
const PLAYLIST_TIMEOUT_MS = 10_000;
const MASTER_TIMEOUT_MS = 4_000;

/**
 * What became of a request for a playlist. `begins`: it holds parts of its first segment only, with
 * which hls.js does nothing until that is whole.
 */
export type Answer = 'here' | 'begins' | 'gone' | 'refused';

export class Asker {
  /** What is under way, by address. */
  readonly #requests = new Map<string, AbortController>();
  #stopped = false;

  /** Asks for a media playlist, which wakes a quality that sleeps. Once at a time for an address. */
  ask(url: string, onAnswer: (answer: Answer) => void): void {
    void this.#get(url, PLAYLIST_TIMEOUT_MS, (status, text) => {
      if (status === 200) onAnswer(text.includes('#EXTINF') ? 'here' : 'begins');
      else onAnswer(status === 404 ? 'gone' : 'refused');
    });
  }

  /** Reads which renditions a multivariant playlist lists; silent when there is none. */
  look(url: string, onListed: (ids: string[]) => void): void {
    void this.#get(url, MASTER_TIMEOUT_MS, (status, text) => {
      if (status === 200) onListed(renditionsIn(text, url));
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const request of this.#requests.values()) request.abort();
  }

  async #get(
    url: string,
    timeoutMs: number,
    onDone: (status: number, text: string) => void,
  ): Promise<void> {
    if (this.#requests.has(url)) return;
    const request = new AbortController();
    this.#requests.set(url, request);
    const timer = setTimeout(() => request.abort(), timeoutMs);
    let status = 0;
    let text = '';
    try {
      const response = await fetch(url, { signal: request.signal, cache: 'no-store' });
      text = await response.text();
      status = response.status;
    } catch {
      // Status 0 says that there was no answer.
    }
    clearTimeout(timer);
    this.#requests.delete(url);
    if (!this.#stopped) onDone(status, text);
  }
}
